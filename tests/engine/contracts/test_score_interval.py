"""A score's interval is its own, or that of its standard error."""

from __future__ import annotations

import math

import pytest

from engine import event_line, score_interval, score_text


@pytest.mark.parametrize(
    ("fields", "low", "high", "text"),
    [
        ({"stderr": 0.1}, 0.304, 0.696, "0.50 ± 0.20"),
        ({"stderr": 0.1, "interval": [0.25, 0.6]}, 0.25, 0.6, "0.50 [0.25, 0.60]"),
        ({"stderr": None}, 0.5, 0.5, "0.5"),
        ({}, 0.5, 0.5, "0.5"),
    ],
)
def test_an_interval_is_given_or_follows_from_the_standard_error(fields, low, high, text):
    """It is ± 1.96 standard errors unless the evaluator says otherwise; the text has its digits."""
    score = {"value": 0.5, **fields}
    assert score_interval(score) == pytest.approx((low, high))
    assert score_text(score) == text


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_value_that_is_no_number_has_no_interval(value):
    """And is told all the same, as that of a model that diverged is."""
    for error in (None, 0.1, math.inf, math.nan):
        assert score_text({"value": value, "stderr": error}) == f"{value}"
    assert score_text({"value": 1.5, "stderr": math.inf}) == "1.5"


def test_a_null_is_told_to_be_not_finite():
    """As the log writes the score of a model that diverged."""
    assert score_text({"value": None, "stderr": None}) == "not finite"
    line = event_line(
        {"event": "score", "stage": "base", "model": "base", "metric": "loss", "value": None}
    )
    assert line == "  loss not finite (base)"
