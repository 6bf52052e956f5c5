"""Promise 1 for settings together: stopped by a signal and resumed, the weights are the same bits.

Every pair of settings that touch a step stands in one run at least.
"""

from __future__ import annotations

import shutil
import signal
import sys
from functools import partial
from itertools import combinations

import pytest
import torch
from engine_parallel.replicated import Replicated
from safetensors.torch import load_file
from support.golden import events
from support.settings import (
    FACTORS,
    OBJECTIVES,
    REST,
    ROWS,
    SAMPLE,
    STRATEGIES,
    member,
    name_of,
    possible,
)

from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import load_spec

STOPPED = 3


def test_all_pairs_are_there():
    """Of settings that go together, in a fifth more rows than the two longest factors have pairs."""
    for (a, its), (b, others) in combinations(FACTORS.items(), 2):
        for x, y in ((x, y) for x in its for y in others):
            there = any(row[a] == x and row[b] == y for row in ROWS)
            assert there == possible({a: x, b: y}), (a, x, b, y)
    assert all(map(possible, ROWS))
    assert len(ROWS) <= 1.2 * len(OBJECTIVES) * len(FACTORS["schedule"])


@pytest.fixture
def go(made, write_spec, tmp_path):
    """Begins a member under a name, or goes on with it: its folder."""

    def go(spec, name, run):
        folder = tmp_path / name / "tiny"
        if not folder.exists():
            shutil.copytree(made[1] / "runs" / "tiny", folder)
        run(write_spec(spec), folder.parent)
        return folder

    return go


def _here(spec, runs, status=0):
    torch._dynamo.reset() if "torch._dynamo" in sys.modules else None
    loaded = load_spec(spec)
    assert run_spec(loaded, runs, Process(), as_json=True, only="learned") == status


def _compare(whole, broken):
    """Weights of the model and of its companions."""
    files = sorted(whole.glob("learned/*/model.safetensors"))
    assert files
    for file in files:
        a, b = load_file(file), load_file(broken / file.relative_to(whole))
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []


def _stopped_and_resumed(made, go, monkeypatch, row):
    spec = member(made, row)
    compute, calls = Replicated.forward_backward, []

    def interrupted(self, micro_batches, counts):
        calls.append(self)
        if len(calls) == STOPPED:
            signal.raise_signal(signal.SIGTERM)
        return compute(self, micro_batches, counts)

    whole = go(spec, "whole", _here)
    with monkeypatch.context() as patch:
        patch.setattr(Replicated, "forward_backward", interrupted)
        broken = go(spec, "broken", partial(_here, status=1))
    go(spec, "broken", _here)
    learned = [event["event"] for event in events(broken) if event.get("stage") == "learned"]
    assert [name for name in learned if name in ("stopped", "resumed")] == ["stopped", "resumed"]
    _compare(whole, broken)
    return whole


@pytest.mark.parametrize("row", SAMPLE, ids=name_of)
def test_stopped_and_resumed_the_weights_are_bit_identical(made, go, monkeypatch, golden, row):
    """A run of every objective, each with other settings."""
    whole = _stopped_and_resumed(made, go, monkeypatch, row)
    golden.check(f"settings/{row['objective']}", events(whole), values=False)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
@pytest.mark.parametrize("row", REST, ids=name_of)
def test_every_pair_of_settings_resumes_exactly(made, go, monkeypatch, row):
    """The rest of the matrix."""
    _stopped_and_resumed(made, go, monkeypatch, row)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("row", "strategy"),
    [(row, STRATEGIES[n % len(STRATEGIES)]) for n, row in enumerate(SAMPLE)],
    ids=lambda value: value.get("type") or name_of(value),
)
def test_two_processes_resume_exactly(made, go, engine_ranks, row, strategy):
    """With a smaller budget first, so schedules are of those that no budget changes."""
    row = {**row, "schedule": "inverse-sqrt" if row["schedule"] == "inverse-sqrt" else "constant"}
    if strategy["type"] == "mesh":
        row["optimizer"] = "adamw"  # others need whole matrices
    if strategy.get("tensor"):
        row["model"] = "plain"  # whose parts it knows
    spec = member(made, row, strategy=strategy)
    for name in ("plain", "dropout"):  # which are made already
        spec["stages"][name]["train"]["strategy"] = {"type": "ddp"}

    def together(file, runs, *arguments):
        engine_ranks(2, "run", file, "--runs", runs, "--stage", "learned", *arguments)

    whole = go(spec, "whole", together)
    budget = f"stages.learned.train.budget={STOPPED} steps"
    broken = go(spec, "broken", lambda file, runs: together(file, runs, "--set", budget))
    go(spec, "broken", together)
    _compare(whole, broken)
