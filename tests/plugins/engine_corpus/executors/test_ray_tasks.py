"""A corpus that Ray prepares is the one that local processes prepare."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from engine.testing import run_spec

pytest.importorskip("ray")


@pytest.fixture
def prepared(tiny_spec, write_spec, tmp_path):
    """The corpus of a spec by an executor: checksums of its files, and its card but for names."""

    def prepare(executor, *overrides):
        spec = {**tiny_spec, "stages": {"corpus": tiny_spec["stages"]["corpus"]}}
        prepare = spec["stages"]["corpus"]["prepare"]
        prepare["executor"] = executor
        prepare["processors"] = [
            {"type": "gopher", "drop": False},
            {"type": "exact-dedup"},
            {"type": "near-dedup"},
        ]
        folder = run_spec(write_spec(spec), tmp_path / executor["type"], *overrides).folder
        files = json.loads((folder / "corpus" / "manifest.json").read_text())["files"]
        return files, json.loads((folder / "corpus" / "card.json").read_text())

    return prepare


@pytest.mark.timeout(600)
@pytest.mark.covers("executor/ray.cpus")
def test_ray_makes_the_same_corpus_also_where_a_worker_is_killed(prepared, tmp_path):
    """To the bit: columns, shards and card."""
    killed = []

    def kill():
        while not killed:
            work = tmp_path / "ray" / "tiny" / ".work" / "corpus"
            if any(work.glob("*.parquet")):
                for worker in _workers():
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
            time.sleep(0.02)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    by_ray = prepared({"type": "ray", "cpus": 2})
    assert killed
    assert by_ray == prepared({"type": "local", "processes": 2})


def _workers():
    """Ray's processes on this machine that carry out a task."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::_called"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found
