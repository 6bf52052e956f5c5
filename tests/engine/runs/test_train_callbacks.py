"""Callbacks may end a train stage, and those that have started are told the end."""

from __future__ import annotations

import pytest

from engine.errors import RunError
from engine.storage.manifest import sealed, unsealed


@pytest.mark.covers("Train.callbacks")
def test_a_callback_may_end_the_stage(tiny_spec, train, run_here):
    """As done: a later run of the same spec does not go on, one with more budget does."""
    train |= {"budget": "40 steps"}
    train["evaluate"] = [{"type": "perplexity", "every": "2 steps", "limit": 2}]
    stop = {"type": "early-stop", "metric": "perplexity", "patience": 1, "min_delta": 1e9}
    train["callbacks"] = [stop]
    run = run_here(tiny_spec)
    ended = len(run.steps("step"))
    assert ended < 40
    assert run.events("ended_early")
    stage = run.folder / "base" / "stage.json"
    standing = unsealed(stage.read_text(encoding="utf-8"))
    assert standing["status"] == "done"
    # Killed between the end of training and the stage's record, the run does not train again.
    stage.write_text(sealed({**standing, "status": "begun", "summary": {}}), encoding="utf-8")
    assert len(run_here(tiny_spec).steps("step")) == ended
    train |= {"callbacks": [], "budget": "41 steps"}
    assert run_here(tiny_spec).steps("step")[-1] == 41


def test_callbacks_that_have_started_are_told_the_end(tiny_spec, train, run_here, monkeypatch):
    """Also where a later one cannot start, and in the opposite order."""
    from engine_callbacks.early_stop import EarlyStopCallback
    from engine_callbacks.spike_guard import SpikeGuardCallback

    told = []
    monkeypatch.setattr(SpikeGuardCallback, "stage_finished", lambda self: told.append("guard"))
    monkeypatch.setattr(EarlyStopCallback, "stage_finished", lambda self: told.append("stop"))
    # No evaluator has an interval, so early-stop refuses to start.
    train["callbacks"] = ["spike-guard", {"type": "early-stop", "metric": "perplexity"}]
    with pytest.raises(RunError, match="no evaluator has an interval"):
        run_here(tiny_spec)
    assert told == ["guard"]
    train["evaluate"] = [{"type": "perplexity", "every": "5 steps"}]
    run_here(tiny_spec)
    assert told == ["guard", "stop", "guard"]
