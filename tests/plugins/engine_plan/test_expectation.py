"""The log of a run has what the plan expects of each train stage."""

from __future__ import annotations

import pytest
from engine_plan import expectation as module
from engine_plan.expectation import expectation

from engine import load_spec


def test_a_run_logs_its_plan(run_here, tiny_spec):
    """The figures agree with those that the run counts; a short stage's time is not measured."""
    run = run_here(tiny_spec)
    (plan,) = run.events("plan")
    expected = plan["expected"]
    (training,) = run.events("training")
    assert expected["parameters"] == training["parameters"]
    assert expected["flops"] == pytest.approx(training["flops"], rel=0.01)
    assert (expected["steps"], expected["tokens"]) == (6, 6 * 256)
    assert expected["memory"] > 0
    assert expected["disk"] > 0
    assert "seconds" not in expected


@pytest.mark.parametrize(
    ("budget", "known"), [("6 steps", True), ("30 seconds", False), ("2 epochs", False)]
)
def test_what_depends_on_the_speed_or_the_data_is_left_out(
    budget, known, tiny_spec, write_spec, monkeypatch
):
    """Steps are known where they are counted; a time is planned only for what takes minutes."""
    tiny_spec["stages"]["base"]["train"]["budget"] = budget
    situation = load_spec(write_spec(tiny_spec)).situation()
    found = expectation(situation, "base")
    assert ("steps" in found) is known
    assert "seconds" not in found
    monkeypatch.setattr(module, "_LONG_FLOPS", 1)
    monkeypatch.setattr(module, "_LONG_SECONDS", 1)
    assert ("seconds" in expectation(situation, "base")) is (budget != "2 epochs")
