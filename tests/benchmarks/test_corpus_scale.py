"""Memory and time of a preparation as its corpus grows.

Memory is that of all processes together, each shared page counted once (PSS), looked at ten times a
second. ``ENGINE_SCALE_MB`` sets the sizes of the corpora, by default 10, 100 and 1,000 MB.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

SIZES = [int(size) for size in os.environ.get("ENGINE_SCALE_MB", "10,100,1000").split(",")]
LONG = 200
"""MB of the one long document of the largest corpus."""
STEPS = [{"type": "language"}, {"type": "exact-dedup"}, {"type": "near-dedup"}]
ALL_STEPS = [
    {"type": "gopher", "drop": False},
    {"type": "c4", "drop": False},
    {"type": "fineweb", "drop": False},
    {"type": "pii"},
    {"type": "mentions", "groups": {"some": ["w7"]}},
    {"type": "quality", "weights": [0, 1, 0]},
    {"type": "select", "keep": {"quality": ">= 0"}},
    *STEPS,
    {"type": "substring-dedup"},
]


def _sentences(dice):
    """Sentences of 15 words as frequent as in a language (Zipf's law), 80 characters each."""
    rows = (dice.zipf(1.3, 15 * 200_000) % 200_000).reshape(-1, 15)
    return np.array([" ".join(f"w{word}" for word in row) + "." for row in rows], object)


def _corpus(folder, size, long=False):
    """Files of 1,000 rows, of which 3 % are edited copies of others; the long document is one file."""
    folder.mkdir()
    dice = np.random.default_rng(size)
    sentences = _sentences(dice)
    left = size * 10**6
    if long:
        with (folder / "long.txt").open("w") as file:
            while file.tell() < LONG * 10**6:
                file.write("\n".join(dice.choice(sentences, 50_000)) + "\n\n")
            left -= file.tell()
    chosen = dice.choice(sentences, 60)
    for number in count():
        with (folder / f"{number:04}.jsonl").open("w") as file:
            for _ in range(1000):
                if dice.random() < 0.03:
                    chosen[dice.integers(0, len(chosen))] = "An edited sentence."
                else:
                    chosen = dice.choice(sentences, int(dice.integers(5, 120)))
                text = "\n".join(chosen)
                left -= len(text)
                file.write(json.dumps({"text": text}) + "\n")
                if left <= 0:
                    return


def _spec(folder, steps, processes):
    stage = {
        "sources": [{"type": "files", "paths": [f"{folder}/*"]}],
        "processors": steps,
        "tokenizer": {"type": "bpe", "vocab_size": 4096},
        "executor": {"type": "local", "processes": processes},
        "holdout": "1%",
    }
    spec = {"engine": 1, "name": "scale", "stages": {"corpus": {"prepare": stage}}}
    file = folder.with_suffix(".yaml")
    file.write_text(json.dumps(spec))
    return file


def _memory(root):
    """Bytes of a process and all that descend from it."""
    children, total = [root], 0
    while children:
        process = Path(f"/proc/{children.pop()}")
        with contextlib.suppress(OSError, StopIteration):
            rows = (process / "smaps_rollup").read_text().splitlines()
            total += 1024 * int(next(r for r in rows if r.startswith("Pss:")).split()[1])
            for task in (process / "task").iterdir():
                children += map(int, (task / "children").read_text().split())
    return total


def _prepare(folder, runs, steps=STEPS, processes=2, watched=True):
    """Seconds and the peak of memory of a preparation; watching it takes a sixth of a core."""
    command = ["-m", "engine.cli", "run", _spec(folder, steps, processes), "--runs", runs]
    begun, peak = time.monotonic(), 0
    run = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    while run.poll() is None:
        peak = max(peak, _memory(run.pid) if watched else 0)
        time.sleep(0.1)
    assert run.returncode == 0
    return time.monotonic() - begun, peak


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """But for 16 bytes a document; the largest has a document of 200 MB."""
    peaks, documents = [], []
    for size in SIZES:
        folder = tmp_path / str(size)
        _corpus(folder, size, long=size == SIZES[-1] and size > 2 * LONG)
        seconds, peak = _prepare(folder, tmp_path / f"runs-{size}")
        card = json.loads((tmp_path / f"runs-{size}/scale/corpus/card.json").read_text())
        peaks.append(peak)
        documents.append(card["sources"][0]["read"])
        print(
            f"\n{size} MB, {documents[-1]:,} documents: {peak / 1e6:,.0f} MB at the peak, "
            f"{seconds:.0f} s",
            end="",
        )
    assert peaks[-1] <= 1.3 * peaks[-2] + 16 * documents[-1]


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_two_processes_take_little_more_than_half_the_time(tmp_path):
    """On two cores, in alternating runs, from the first part to the last shard."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    _corpus(tmp_path / "texts", SIZES[1])
    seconds = {1: [], 2: []}
    for number in range(2):
        for processes in seconds:
            runs = tmp_path / f"runs-{processes}-{number}"
            given = tmp_path / "texts", runs, ALL_STEPS, processes
            seconds[processes].append(_prepare(*given, watched=False)[0])
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(f"\n{seconds}: {ratios}")
    assert min(ratios) >= 1.7


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_each_step_tells_its_core_hours(tmp_path, monkeypatch):
    """For a TB of text, in one process."""
    from engine.data.corpus import prepare
    from engine.testing import run_spec

    told: dict[str, float] = {}
    last = [time.process_time()]

    def clock(name):
        now = time.process_time()
        told[name] = told.get(name, 0) + now - last[0]
        last[0] = now

    def clocked(*given, write=prepare.write_shards):
        clock("train the tokenizer")
        tokens = write(*given)
        clock("tokenize and write")
        return tokens

    class Clocked(prepare.Documents):
        def carry_out(self, named):
            clock("read")
            super().carry_out(named)
            clock(named.name)

        def card(self, source):
            clock("hold out")
            return super().card(source)

    monkeypatch.setattr(prepare, "Documents", Clocked)
    monkeypatch.setattr(prepare, "write_shards", clocked)
    _corpus(tmp_path / "texts", SIZES[0])
    size = sum(file.stat().st_size for file in (tmp_path / "texts").iterdir())
    last[0] = time.process_time()
    run_spec(_spec(tmp_path / "texts", ALL_STEPS, 0), tmp_path / "runs")
    for name, seconds in told.items():
        print(f"\n{name}: {seconds / size * 1e12 / 3600:,.0f} core-hours per TB", end="")
    assert set(told) >= {step["type"] for step in ALL_STEPS}
