"""Checkpoints of a train stage are written and kept as its spec says."""

from __future__ import annotations

import pytest


@pytest.mark.covers("Train.checkpoint", "Checkpoints.every", "Checkpoints.keep")
def test_checkpoints_come_and_go_as_asked(tiny_spec, train, run_here):
    """Every so often, the last few kept."""
    train |= {"checkpoint": {"every": "2 steps", "keep": 3}, "evaluate": [], "budget": "9 steps"}
    run = run_here(tiny_spec)
    assert [e["step"] for e in run.events("checkpoint")] == [0, 2, 4, 6, 8, 9]
    kept = sorted(p.name for p in (run.folder / "base" / "checkpoints").iterdir())
    assert kept == ["step-000000006", "step-000000008", "step-000000009"]


@pytest.mark.covers("Checkpoints.background")
@pytest.mark.parametrize("background", [True, False])
def test_checkpoints_are_written_beside_training_if_asked(
    tiny_spec, train, run_here, monkeypatch, background
):
    """On a thread of their own, or on training's."""
    import threading

    from engine.storage.checkpoints import Checkpoints

    writers = set()
    write = Checkpoints._write

    def spy(self, *arguments):
        writers.add(threading.current_thread() is threading.main_thread())
        return write(self, *arguments)

    monkeypatch.setattr(Checkpoints, "_write", spy)
    train["checkpoint"] = {"background": background}
    run_here(tiny_spec)
    assert writers == {not background}


@pytest.mark.covers("Train.evaluate")
def test_the_best_scored_checkpoint_is_kept(tiny_spec, train, run_here):
    """Among those saved where a score was taken; a rate far too high makes the first the best."""
    train |= {"checkpoint": {"every": "2 steps", "keep": 1}, "budget": "8 steps"}
    train["evaluate"] = [{"type": "perplexity", "every": "2 steps", "limit": 2}]
    train["optimizer"] |= {"lr": 3.0}
    run = run_here(tiny_spec)
    scores = [e for e in run.events("score") if e["metric"] == "perplexity"]
    best = min(scores, key=lambda e: e["value"])["step"]
    kept = sorted(p.name for p in (run.folder / "base" / "checkpoints").iterdir())
    assert kept == sorted({f"step-{best:09d}", "step-000000008"})
