"""Callback `early-stop`: a stage ends when its score no longer improves."""

from __future__ import annotations

import math

import pytest
from engine_callbacks.config import EarlyStop
from engine_callbacks.early_stop import EarlyStopCallback

from engine import RunError, Stop

_EVALUATE = {"evaluate": [{"type": "quiz", "every": "2 steps"}]}


def _stops_after(
    fields: dict, values: list[float], *, higher_is_better: bool = False
) -> int | None:
    """At which of these scores it stops; state is saved and loaded between any two."""
    config = EarlyStop(metric="points", **fields)
    state = EarlyStopCallback(config).state()
    for count, value in enumerate(values, 1):
        callback = EarlyStopCallback(config)
        callback.stage_started("base", None, _EVALUATE)
        callback.load(state)
        if isinstance(callback.scored(_score("quiz", "points", value, higher_is_better)), Stop):
            return count
        state = callback.state()
    return None


def _score(evaluator: str, metric: str, value: float, higher_is_better: bool = False) -> dict:
    return {
        "step": 2,
        "evaluator": evaluator,
        "metric": metric,
        "value": value,
        "higher_is_better": higher_is_better,
    }


@pytest.mark.covers("callback/early-stop.patience")
def test_it_waits_for_as_many_scores_as_asked():
    """Counted from the best one."""
    assert _stops_after({"patience": 1}, [5, 4, 4]) == 3
    assert _stops_after({"patience": 2}, [5, 4, 4, 3, 3, 3]) == 6
    assert _stops_after({"patience": 3}, [5, 4, 4, 3, 3, 3]) is None


@pytest.mark.covers("callback/early-stop.min_delta")
def test_a_smaller_change_is_no_improvement():
    """And small ones add up."""
    assert _stops_after({"patience": 2}, [5.0, 4.9, 4.8, 4.7]) is None
    assert _stops_after({"patience": 2, "min_delta": 0.5}, [5.0, 4.9, 4.8, 4.7]) == 3
    assert _stops_after({"patience": 2, "min_delta": 0.15}, [5.0, 4.9, 4.8, 4.7]) is None


def test_the_score_says_which_way_is_better():
    """An accuracy rises, a perplexity falls."""
    assert _stops_after({"patience": 2}, [1, 2, 3], higher_is_better=True) is None
    assert _stops_after({"patience": 2}, [1, 2, 3]) == 3


def test_what_is_no_number_is_no_improvement():
    """Whether it comes first or last."""
    assert _stops_after({"patience": 2}, [math.nan, 5, 4, math.nan, math.nan]) == 5


@pytest.fixture
def train(tiny_spec):
    """The train stage's part of the tiny spec, scored every other step."""
    train = tiny_spec["stages"]["base"]["train"]
    train["evaluate"] = [{"type": "perplexity", "every": "2 steps", "limit": 2}]
    return train


@pytest.mark.covers("callback/early-stop.metric")
def test_a_stage_ends_by_the_score_named(tiny_spec, train, run_here):
    """No other score counts, and a name that no score has is an error with those there are."""
    stop = {"type": "early-stop", "metric": "bits_per_byte", "patience": 1, "min_delta": 1e9}
    train |= {"budget": "40 steps", "callbacks": [stop]}
    run = run_here(tiny_spec)
    assert run.steps("step")[-1] == 4
    (ended,) = run.events("ended_early")
    assert ended["reason"].startswith("perplexity/bits_per_byte is ")
    stop["metric"] = "bits_per_bite"
    with pytest.raises(RunError, match=r"names no score; write one of: perplexity/bits_per_byte, "):
        run_here(tiny_spec, runs="wrong")


def test_with_a_larger_budget_it_waits_anew(tiny_spec, train, run_here):
    """A stage that it ended goes on for as many scores as it waits for, and not for one; what the stage
    ended with counts once, though it is scored again. With the same budget it stays ended."""
    stop = {"type": "early-stop", "metric": "bits_per_byte", "patience": 2, "min_delta": 1e9}
    train |= {"budget": "40 steps", "callbacks": [stop]}
    assert run_here(tiny_spec).steps("step")[-1] == 6
    assert run_here(tiny_spec).steps("step")[-1] == 6
    train["budget"] = "44 steps"
    assert run_here(tiny_spec).steps("step")[-1] == 10


def test_a_name_that_two_evaluators_give_is_refused():
    """Until the evaluator stands before it."""
    evaluate = {"evaluate": [{"type": t, "every": "2 steps"} for t in ("quiz", "exam")]}
    for metric, is_refused in [("points", True), ("exam/points", False)]:
        callback = EarlyStopCallback(EarlyStop(metric=metric))
        callback.stage_started("base", None, evaluate)
        callback.scored(_score("quiz", "points", 1.0))
        callback.step_finished({"step": 1})  # the exam has not been held yet
        callback.scored(_score("exam", "points", 1.0))
        if is_refused:
            with pytest.raises(RunError, match="names exam/points and quiz/points"):
                callback.step_finished({"step": 2})
        else:
            callback.step_finished({"step": 2})


def test_without_scores_on_the_way_it_cannot_start(tiny_spec, train, run_here):
    """As it would never stop anything."""
    train["evaluate"][0].pop("every")
    train["callbacks"] = [{"type": "early-stop", "metric": "perplexity"}]
    with pytest.raises(RunError, match=r"no evaluator has an interval.*every: 200 steps"):
        run_here(tiny_spec)
