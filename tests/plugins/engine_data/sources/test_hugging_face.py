"""Data sets through `datasets`: from folders, and from a hub on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from engine_data.config import HuggingFace
from engine_data.sources.hugging_face import build
from pydantic import ValidationError
from support.internals import read_manifest
from support.sources import records_of

from engine import Completion, RunError
from engine.testing import StandAloneContext

_CARD = """---
configs:
- config_name: small
  default: true
  data_files:
  - {split: train, path: small/train.jsonl}
  - {split: test, path: small/test.jsonl}
- config_name: large
  data_files: large/*.jsonl
---
"""


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    """A folder as people put them on the hub: two configurations, one with two splits."""
    folder = tmp_path_factory.mktemp("sets") / "texts"
    rows = {
        "small/train": [{"text": f"train {i}", "title": f"t{i}", "stars": i} for i in range(7)],
        "small/test": [{"text": "test", "title": "t", "stars": 0}],
        "large/one": [{"text": "large", "license": "MIT"}],
    }
    for name, content in rows.items():
        file = folder / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    (folder / "README.md").write_text(_CARD, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Where `datasets` keeps what it read: not in anybody's home."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _read(path: Path, **options: Any) -> list[Any]:
    return records_of(build(HuggingFace(path=str(path), **options), StandAloneContext()))


def _texts(path: Path, **options: Any) -> list[str]:
    return [record.text for record in _read(path, **options)]


@pytest.mark.covers("data-source/hugging-face.streaming")
def test_streamed_or_not_the_records_are_the_same(data_set, cache):
    """Only what is not streamed leaves a copy in the cache."""
    streamed = _read(data_set)
    assert [record.text for record in streamed] == [f"train {i}" for i in range(7)]
    assert streamed[3].id == f"{data_set}/train/3"
    assert streamed[3].meta == {"title": "t3", "stars": 3}
    assert not any(cache.rglob("*.arrow"))
    assert _read(data_set, streaming=False) == streamed
    assert any(cache.rglob("*.arrow"))


@pytest.mark.covers("data-source/hugging-face.name", "data-source/hugging-face.split")
def test_configuration_and_split_are_the_ones_asked_for(data_set):
    """What there is instead is told where they are not there."""
    assert _texts(data_set, name="large") == ["large"]
    assert _texts(data_set, split="test") == ["test"]
    with pytest.raises(RunError, match=r"texts' \(dev\) cannot be read.*Available.*train.*test"):
        _read(data_set, split="dev")
    with pytest.raises(RunError, match=r"'huge' not found.*small.*large.*; check its name"):
        _read(data_set, name="huge")


@pytest.mark.covers("data-source/hugging-face.records", "data-source/hugging-face.columns")
def test_columns_become_the_fields_of_a_schema(data_set):
    """By the names given; what no field takes is kept beside."""
    columns = {"prompt": "title", "completion": "text"}
    config = HuggingFace(path=str(data_set), records="completion", columns=columns)
    assert config.gives() == "completion"
    first = _read(data_set, records="completion", columns=columns)[0]
    assert first == Completion(
        id=f"{data_set}/train/0",
        source=str(data_set),
        prompt="t0",
        completion="train 0",
        meta={"stars": 0},
    )
    with pytest.raises(
        RunError, match=r"train/0: no column 'body', which `columns` names for 'text'; it has"
    ):
        _read(data_set, columns={"text": "body"})
    with pytest.raises(RunError, match=r"train/0: its rows have no prompt records: they have text"):
        _read(data_set, records="prompt")
    with pytest.raises(RunError, match="train/0: field 'text' is int, not text"):
        _read(data_set, columns={"text": "stars"})


@pytest.mark.covers("data-source/hugging-face.license")
def test_a_licence_stands_where_a_row_says_none(data_set):
    """A row's own comes first."""
    assert {record.license for record in _read(data_set, license="CC0-1.0")} == {"CC0-1.0"}
    assert _read(data_set, name="large", license="CC0-1.0")[0].license == "MIT"


def test_damaged_data_is_an_error_that_names_the_data_set(tmp_path):
    """Also where it shows only on the way."""
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(RunError, match=rf"data set '{tmp_path}' \(train\) cannot be read"):
        _read(tmp_path)


def test_a_folder_without_data_is_an_error(tmp_path):
    """It is named."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"empty' \(train\) cannot be read"):
        _read(tmp_path / "empty")


def test_a_data_set_of_the_hub_needs_a_revision():
    """Or the same spec might read other data tomorrow."""
    with pytest.raises(
        ValidationError, match=r"'someone/texts' is not a folder here.*pinned revision"
    ):
        HuggingFace(path="someone/texts")


def test_a_token_that_is_not_set_is_an_error(data_set, monkeypatch):
    """Before anything is read."""
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    with pytest.raises(RunError, match="the environment variable NO_SUCH_TOKEN is not set"):
        _read(data_set, token_env="NO_SUCH_TOKEN")


_TOKEN = "hf_neverWriteThisDown"
_OLD, _NEW = "a" * 40, "b" * 40


class _Hub(BaseHTTPRequestHandler):
    """A hub with one data set in two revisions, of which the new one needs the token."""

    protocol_version = "HTTP/1.1"
    revisions = {_OLD: b'{"text": "old"}\n' * 3, _NEW: b'{"text": "new"}\n' * 4}  # noqa: RUF012

    def do_GET(self) -> None:
        sha = next((sha for sha in self.revisions if sha in self.path), None)
        if sha is None:
            return self._answer(404, {}, "RevisionNotFound")
        if sha == _NEW and self.headers["Authorization"] != f"Bearer {_TOKEN}":
            return self._answer(401, {}, "GatedRepo")
        content = self.revisions[sha]
        file = {"type": "file", "path": "train.jsonl", "size": len(content), "oid": "0" * 40}
        if self.path.endswith("/train.jsonl"):
            return self._answer(200, content)
        if "/resolve/" in self.path or "/data?" in self.path:
            return self._answer(404, {}, "EntryNotFound")
        if "/tree/" in self.path:
            return self._answer(200, [file])
        return self._answer(200, {"id": "someone/texts", "sha": sha, "siblings": []})

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: Any, error: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"0"')
        self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path):
    """The environment of a process that knows this hub and no other."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "HUB_TOKEN": _TOKEN,
    }
    server.shutdown()
    server.server_close()


@pytest.mark.covers(
    "data-source/hugging-face.path",
    "data-source/hugging-face.revision",
    "data-source/hugging-face.token_env",
)
def test_a_revision_is_read_from_the_hub_with_a_token_that_is_never_written(
    tiny_spec, write_spec, tmp_path, engine, hub
):
    """The token goes from the environment to the hub: it is in no file of the run, nor on the
    screen, also when the data cannot be read."""
    old = {"type": "hugging-face", "path": "someone/texts", "revision": _OLD}
    new = {**old, "revision": _NEW, "token_env": "HUB_TOKEN"}
    prepare = {"sources": [old, new], "tokenizer": {"type": "bytes"}, "holdout": 0}
    tiny_spec["stages"] = {
        "corpus": {"prepare": prepare},
        "other": {"prepare": {**prepare, "sources": [{**new, "revision": "c" * 40}]}},
    }
    env = {**hub, "ENGINE_ALLOW": "secret=HUB_TOKEN@127.0.0.1"}
    done = engine("run", write_spec(tiny_spec), "--runs", tmp_path / "runs", status=1, env=env)
    corpus = tmp_path / "runs" / "tiny" / "corpus"
    assert [read_manifest(corpus / "shards" / str(i)).documents for i in (0, 1)] == [3, 4]
    assert "data set 'someone/texts' (train) cannot be read" in done.stderr
    assert "doesn't exist" in done.stderr
    written = [p for folder in ("runs", "home") for p in (tmp_path / folder).rglob("*")]
    contents = [file.read_bytes() for file in written if file.is_file()]
    assert len(contents) > 5
    assert not [content for content in contents if _TOKEN.encode() in content]
    assert _TOKEN not in done.stdout + done.stderr


def _described(folder: Path, place: str) -> None:
    """A card that calls a column of names images."""
    card = "---\ndataset_info:\n  features:\n  - {name: text, dtype: string}\n"
    card += "  - {name: picture, dtype: image}\n---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    row = json.dumps({"text": "a", "picture": place})
    (folder / "train.jsonl").write_text(row, encoding="utf-8")


def _typed(folder: Path, place: str) -> None:
    """A table that says so itself, in a list, beside JSON of its own."""
    kinds = {
        "text": datasets.Value("string"),
        "picture": datasets.List(datasets.Image(decode=False)),
        "rest": datasets.Json(),
    }
    row = {"text": "a", "picture": [{"path": place, "bytes": None}], "rest": {"b": [1]}}
    made = datasets.Dataset.from_list([row], features=datasets.Features(kinds))
    told = datasets.Features({**kinds, "picture": datasets.List(datasets.Image())})
    table = made.data.table.replace_schema_metadata(told.arrow_schema.metadata)
    pq.write_table(table, folder / "train.parquet")


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("write", [_described, _typed])
def test_a_column_that_names_files_opens_none(write, streaming, tmp_path, monkeypatch):
    """Neither one of this machine nor one of a server: its names stay names."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder, str(tmp_path / "secret.png"))  # to open it would be an error: it is not there
    config = HuggingFace(path=str(folder), streaming=streaming, records="text")
    (record,) = records_of(build(config, StandAloneContext()))
    assert "secret.png" in str(record.meta["picture"])
    assert record.meta.get("rest", {"b": [1]}) == {"b": [1]}
