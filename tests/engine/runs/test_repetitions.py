"""Repetitions of a train stage, by which one knows the noise of its scores."""

from __future__ import annotations

import copy

import pytest


@pytest.mark.covers("Train.repetition")
def test_a_repetition_has_another_seed_on_the_same_documents(tiny_spec, run_here):
    """Other weights, another order and the same held-out documents; it can be run again exactly."""
    base = tiny_spec["stages"]["base"]
    base["train"] |= {"budget": "2 steps"}
    for name, repetition in (("second", 1), ("third", 2), ("again", 1)):
        tiny_spec["stages"][name] = copy.deepcopy(base)
        tiny_spec["stages"][name]["train"]["repetition"] = repetition
    run = run_here(tiny_spec)
    first = {s: run.steps("loss", stage=s) for s in ("base", "second", "third", "again")}
    assert first["second"] == first["again"]
    assert len({tuple(losses) for losses in first.values()}) == 3
    scored = {tuple(e["n"] for e in run.events("score", stage=s)) for s in first}
    assert len(scored) == 1
