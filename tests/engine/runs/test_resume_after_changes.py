"""A run may go on with another budget or other source weights, but not by itself with another torch."""

from __future__ import annotations

import json

import pytest

from engine.errors import RunError
from engine.runs import train_stage as training


def test_more_budget_goes_on_and_says_what_the_schedule_does(tiny_spec, train, run_here):
    """The weights go on from where they were; a schedule tied to the budget jumps, and says so."""
    train["optimizer"]["schedule"] = {"type": "warmup-cosine"}
    first = run_here(tiny_spec)
    assert not first.events("warning")
    train["budget"] = "12 steps"
    run = run_here(tiny_spec)
    assert run.steps("step") == list(range(1, 13))
    (warning,) = run.events("warning")
    assert "the budget was 6 steps and is 12 steps" in warning["message"]


def test_source_weights_may_change_in_mid_run(tiny_spec, train, texts, run_here):
    """A runtime field: the order before stays, a segment records the change."""
    sources = [
        {"type": "files", "paths": [f"{texts}/[0-2]*.txt"], "weight": 0.5},
        {"type": "files", "paths": [f"{texts}/[3-5]*.txt"], "weight": 0.5},
    ]
    tiny_spec["stages"]["corpus"]["prepare"]["sources"] = sources
    run_here(tiny_spec)
    sources[0]["weight"] = 0.1
    train["budget"] = "30 steps"
    run = run_here(tiny_spec)
    assert run.steps("step") == list(range(1, 31))
    latest = sorted((run.folder / "base" / "checkpoints").iterdir())[-1]
    kept = json.loads((latest / "state.json").read_text(encoding="utf-8"))["data"]
    ((changed_at, before),) = kept["earlier"]
    assert changed_at >= 48  # rows of the six steps; the change waits for the end of a block
    assert [source[2] for source in before] == [0.5, 0.5]
    assert [source[2] for source in kept["sources"]] == [0.1, 0.5]


def test_another_version_is_refused_unless_allowed(tiny_spec, train, run_here, monkeypatch):
    """Weaker resumes are asked for by name."""

    run_here(tiny_spec)
    train["budget"] = "8 steps"
    real = training.metadata.version
    monkeypatch.setattr(training.metadata, "version", lambda n: "99.0" if n == "torch" else real(n))
    with pytest.raises(
        RunError, match=r"written with torch 2\.\d+.*but torch 99.0 is installed.*--allow"
    ):
        run_here(tiny_spec)
    assert run_here(tiny_spec, inexact=True).steps("step")[-1] == 8
