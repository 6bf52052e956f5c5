"""Preparations of inputs of which something is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from support.pdf import pdf

from engine.testing import FinishedRun, run_spec

GOOD = "The sea rises and falls at most coasts."
PAGE = f"<!DOCTYPE html><html><body><p>{GOOD}</p></body></html>".encode()
ROW = json.dumps({"text": GOOD}).encode() + b"\n"


def response(body: bytes, length: int | None = None) -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    head = "WARC/1.1\r\nWARC-Type: response\r\nContent-Type: application/http\r\n"
    size = len(block) if length is None else length
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + block + b"\r\n\r\n"


RESPONSE = response(PAGE)


def prepared(
    folder: Path, *sources: dict[str, Any], plugins: Sequence[str] = (), **settings: Any
) -> FinishedRun:
    prepare = {
        "sources": list(sources),
        "tokenizer": {"type": "bytes"},
        "holdout": 0,
        "executor": {"type": "local", "processes": 0},
        **settings,
    }
    spec = {
        "engine": 1,
        "name": "bad",
        "seed": 1,
        "plugins": list(plugins),
        "stages": {"corpus": {"prepare": prepare}},
    }
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return run_spec(file, folder / "runs")


def beside_a_good_one(folder: Path, kind: str, name: str, content: bytes | None) -> dict[str, Any]:
    """A source of this file and a good one."""
    folder.mkdir(parents=True, exist_ok=True)
    good = {"pdf": pdf([[GOOD]]), "warc": RESPONSE, "html": PAGE, "files": GOOD.encode()}
    (folder / f"0.{'txt' if kind == 'files' else kind}").write_bytes(good[kind])
    if content is not None:
        (folder / name).write_bytes(content)
    return {"type": kind, "paths": [f"{folder}/**/*"]}


def check_nothing_is_left(folder: Path) -> None:
    """But what a preparation goes on from, and the stage's record."""
    corpus = folder / "runs" / "bad" / "corpus"
    names = {path.relative_to(corpus).parts[0] for path in corpus.rglob("*") if path.is_file()}
    assert names <= {"work", "stage.json"}
    assert not list(corpus.parent.rglob("*partial*"))


CRASHING = {
    "engine_crashing/__init__.py": "",
    "engine_crashing/plugin.py": """
from engine import Component, hookimpl


@hookimpl
def engine_data_sources():
    config, build = "engine_crashing.config:Crashing", "engine_crashing.parser:build"
    return [Component("crashing", config, build, "Files, one of which crashes its parser.")]
""",
    "engine_crashing/config.py": '''
from engine import DataSourceConfig


class Crashing(DataSourceConfig):
    """Files, one of which crashes its parser."""

    paths: tuple[str, ...]
''',
    "engine_crashing/parser.py": """
import ctypes

from engine import Text
from engine_corpus.collect.local_files import FileDocuments


class CrashingParser(FileDocuments):
    kind = "crashing"

    def document(self, name, raw):
        if b"crash" in raw:
            ctypes.string_at(0)
        return Text(id=name, source=name, text=raw.decode())


def build(config, context):
    return CrashingParser(config.paths, 1)
""",
}
