"""A preparation by worker processes, killed as a whole at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

_STEPS = [{"type": "gopher", "drop": False}, {"type": "exact-dedup"}, {"type": "near-dedup"}]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kills", [2, pytest.param(60, marks=pytest.mark.soak)], ids=["a few", "many"]
)
def test_the_corpus_is_the_one_of_an_unbroken_run(kills, tiny_spec, write_spec, tmp_path):
    """By SIGKILL and SIGTERM in turn; what was read and computed is not made again."""
    prepare = tiny_spec["stages"]["corpus"]["prepare"]
    prepare["executor"] = {"type": "local", "processes": 2}
    prepare["processors"] = _STEPS
    spec = write_spec({**tiny_spec, "stages": {"corpus": tiny_spec["stages"]["corpus"]}})
    whole = _prepared(spec, tmp_path / "whole")
    dice = random.Random(kills)
    work = tmp_path / "killed" / "tiny" / ".work" / "corpus"
    left = 0
    for kill in range(kills):
        if _begun(spec, tmp_path / "killed", kill, dice):
            tables = len(list(work.glob("*.parquet")))
            assert tables >= left, "a table that was whole is gone"
            left = tables
        else:  # it was done before its time had come
            left = 0
            for run in (tmp_path / "killed").iterdir():
                run.rename(tmp_path / f"done-{kill}")
                assert _files(tmp_path / f"done-{kill}") == whole
    assert _prepared(spec, tmp_path / "killed") == whole


def _begun(spec, runs, kill, dice):
    """Whether a run was ended amid its preparation: after some more tables, or some time."""
    run = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "run", spec, "--runs", runs],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    work = runs / "tiny" / ".work" / "corpus"
    before = len(list(work.glob("*")))
    more, wait = dice.randrange(1, 40), dice.random() / 10
    while run.poll() is None and len(list(work.glob("*"))) < before + more:
        time.sleep(0.002)
    try:
        run.wait(wait)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, (signal.SIGKILL, signal.SIGTERM)[kill % 2])
    return run.wait() != 0


def _prepared(spec, runs):
    subprocess.run(
        [sys.executable, "-m", "engine.cli", "run", spec, "--runs", runs],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return _files(runs / "tiny")


def _files(run):
    return json.loads((run / "corpus" / "manifest.json").read_text())["files"]
