"""Scores stand with their intervals, side by side and checkpoint by checkpoint."""

from __future__ import annotations

import math

import pytest
from engine_report.page.scores import at_checkpoints, last_scores, over_steps, scores_of
from support.made_runs import begun, made_run, score, step

from engine import read_run


def scores(tmp_path, *events, name="run"):
    return scores_of(read_run(made_run(tmp_path / name, [begun(), *events])))


def test_the_last_scores_of_runs_are_columns(tmp_path):
    """Each with half of its 95 % interval; a run without this score has a dash."""
    first = scores(tmp_path, step(1), score(0.5, 1), step(2), score(0.75, 2), name="a")
    second = scores(tmp_path, step(1), score(0.25, 1, metric="f1", n=7), name="b")
    matrix = last_scores(["a", "b"], [first, second])
    assert dict(matrix.rows) == {
        "quiz: acc": ["0.75 ± 0.20", "–", "40"],
        "quiz: f1": ["–", "0.25 ± 0.20", "7"],
    }


def test_models_of_an_evaluate_stage_have_rows(tmp_path):
    """By stage and model."""
    events = [score(n / 10, None, "compared", model=f"model-{n}") for n in (1, 2)]
    matrix = last_scores(["run"], [scores(tmp_path, *events)])
    assert matrix.notes == ("± and [low, high] are intervals of 95 %.",)
    assert [head for head, _ in matrix.rows] == [
        "compared, model-1: quiz: acc",
        "compared, model-2: quiz: acc",
    ]


def test_checkpoints_have_rows(tmp_path):
    """Those that were scored, and a chart is drawn of two or more."""
    second = (score(0.75, 2), score(3.0, 2, metric="f1"))
    found = scores(tmp_path, step(1), score(0.5, 1), step(2), *second)
    ((stage, matrix),) = at_checkpoints(found)
    assert (stage, list(matrix.columns)) == ("base", ["quiz: acc", "quiz: f1"])
    assert list(matrix.rows) == [
        ("1", ["0.50 ± 0.20", "–"]),
        ("2", ["0.75 ± 0.20", "3.00 ± 0.20"]),
    ]
    assert over_steps([found]) == [("base", "quiz", "acc")]


@pytest.mark.parametrize(
    "fields",
    [
        {"stderr": "wide"}, {"stderr": math.inf}, {"interval": "wide"}, {"interval": [0, None]},
        {"n": None}, {"step": "late"}, {"model": 7}, {"evaluator": None}, {"stderr": -1},
    ],
)  # fmt: skip
def test_a_damaged_field_of_a_score_is_left_out(tmp_path, fields):
    """Its value is shown all the same."""
    (found,) = scores(tmp_path, score(0.5, **fields))
    assert found.value == 0.5
    assert found.low <= 0.5 <= found.high


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_score_that_is_not_finite_is_said_to_be_so(tmp_path, value):
    """It stands in the tables in place of an earlier one, and makes no chart."""
    found = scores(tmp_path, step(1), score(0.5, 1), step(2), score(value, 2))
    assert found[1].value is found[1].low is found[1].high is None
    assert dict(last_scores(["run"], [found]).rows) == {"quiz: acc": ["not finite", "40"]}
    ((_, matrix),) = at_checkpoints(found)
    assert list(matrix.rows) == [("1", ["0.50 ± 0.20"]), ("2", ["not finite"])]
    assert over_steps([found]) == []


@pytest.mark.parametrize("value", ["high", True, 10**400, [1]])
def test_a_score_without_a_number_is_left_out(tmp_path, value):
    """There is nothing to show."""
    assert scores(tmp_path, score(value)) == []
