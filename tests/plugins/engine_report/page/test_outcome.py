"""The plan of a stage stands beside what came out."""

from __future__ import annotations

import pytest
from engine_report.page.outcome import compared, planned, reached
from support.made_runs import begun, made_run, step

from engine import read_run

PLAN = {"steps": 4, "tokens": 400, "seconds": 4.0, "memory": 1e9, "disk": 9, "parameters": 10}


def stage(tmp_path, *events):
    return read_run(made_run(tmp_path / "run", [begun(), *events])).stages["base"]


def test_the_outcome_is_that_of_the_steps(tmp_path):
    """Steps, tokens, their time by their speed, the peak of memory, the loss of the last step."""
    found = stage(
        tmp_path,
        {"event": "training", "stage": "base", "parameters": 12, "flops": 1e6},
        step(1, 3.0, memory=5), step(2, None, memory=9), step(3, 2.5, memory=7),
    )  # fmt: skip
    outcome = reached(found, found.steps.columns())
    assert outcome == {
        "parameters": 12, "steps": 3, "tokens": 300, "flops": None, "seconds": 6.0,
        "tokens_per_second": 50.0, "utilisation": None, "memory": 9, "loss": 2.5,
        "not_finite_since": None,
    }  # fmt: skip


def test_a_loss_that_is_not_finite_has_no_last_value(tmp_path):
    """The step since which it is not stands in its place, also beside a run that did not diverge."""
    lost = stage(tmp_path / "a", step(1, 3.0), step(2, None), step(3, None))
    well = stage(tmp_path / "b", step(1, 3.0), step(2, 2.12341))
    found = [({}, reached(one, one.steps.columns())) for one in (lost, well)]
    rows = dict(compared(["a", "b"], found).rows)
    assert rows["loss of the last step"] == ["–", "2.1234"]
    assert rows["loss not finite since step"] == ["2", "–"]


def test_the_mean_utilisation_counts_steps_by_their_time(tmp_path):
    """A slow step has a greater weight than a fast one."""
    slow = step(1, utilisation=0.1, tokens_per_second=10.0)  # 10 s
    found = stage(tmp_path, slow, step(2, utilisation=0.4, tokens_per_second=50.0))  # 2 s
    assert reached(found, found.steps.columns())["utilisation"] == pytest.approx(0.15)
    untimed = stage(tmp_path / "b", step(1, utilisation=0.1, tokens_per_second=None))
    assert reached(untimed, untimed.steps.columns())["utilisation"] == 0.1


def test_memory_is_compared_by_words_and_missing_times_are_explained(tmp_path):
    """Tensors have no ratio to a process; a short stage's plan has no time."""
    found = stage(tmp_path, step(1, memory=5e8))
    outcome = reached(found, found.steps.columns())
    short = {name: value for name, value in PLAN.items() if name != "seconds"}
    one = compared(["run"], [(short, outcome)])
    assert dict(one.rows)["peak memory of a process"] == ["1 GB of tensors", "500 MB", ""]
    assert "the plan counts the tensors" in one.notes[0]
    assert "for stages of 1e13 FLOPs" in one.notes[1]
    both = compared(["a", "b"], [(short, outcome), ({}, outcome)])
    assert dict(both.rows)["peak memory of a process"] == ["500 MB (1 GB of tensors)", "500 MB"]
    assert both.notes[1:] == one.notes
    assert len(compared(["run"], [(PLAN, outcome)]).notes) == 1


def test_plan_and_outcome_of_a_run_have_a_ratio(tmp_path):
    """Of the last plan; what has no plan has no ratio."""
    old = {"event": "plan", "stage": "base", "expected": {"steps": 9}}
    found = stage(tmp_path, old, {**old, "expected": PLAN}, *(step(n) for n in (1, 2, 3)))
    plan = planned(found)
    assert plan["tokens_per_second"] == 100
    matrix = compared(["run"], [(plan, reached(found, found.steps.columns()))])
    rows = dict(matrix.rows)
    assert rows["steps"] == ["4", "3", "0.75"]
    assert rows["time of training"] == ["4 s", "6 s", "1.50"]
    assert rows["peak memory of a process"] == ["1 GB of tensors", "–", ""]
    assert "disk" not in rows


@pytest.mark.parametrize(
    "end",
    [
        {"event": "stopped", "stage": "base", "step": 2, "reason": "signal"},
        {"event": "ended_early", "stage": "base", "step": 2, "reason": "enough"},
    ],
)
def test_the_flops_of_a_stage_that_ended_early(tmp_path, end):
    """Are those of its tokens, not of its whole budget."""
    training = {"event": "training", "stage": "base", "flops": 1e6}
    plan = {"event": "plan", "stage": "base", "expected": PLAN}
    finished = {"event": "stage_finished", "stage": "base", "budget": "4 steps", "steps": 2}
    done = [finished] if end["event"] == "ended_early" else []
    found = stage(tmp_path, plan, training, step(1), step(2), end, *done)
    assert reached(found, found.steps.columns())["flops"] == 5e5


def test_several_runs_stand_side_by_side(tmp_path):
    """With their plans in brackets."""
    found = stage(tmp_path, *(step(n) for n in (1, 2)))
    outcome = reached(found, found.steps.columns())
    matrix = compared(["a", "b"], [(PLAN, outcome), ({}, outcome)])
    assert dict(matrix.rows)["steps"] == ["2 (4)", "2"]
    assert matrix.notes[0] == "In brackets: what the plan was."


@pytest.mark.parametrize("expected", [None, [], {"steps": "many"}, {"steps": 1e999}, 7])
def test_a_damaged_plan_is_no_plan(tmp_path, expected):
    """Whatever a line of the log has."""
    found = stage(tmp_path, {"event": "plan", "stage": "base", "expected": expected}, step(1))
    assert not any(planned(found).values())
    compared(["run"], [(planned(found), reached(found, found.steps.columns()))])
