"""The table of several models' scores."""

from __future__ import annotations

import pytest
from rich.console import Console

from engine.cli.comparison import comparison


def _score(model, evaluator, metric, value, stderr=None, interval=None):
    return {
        "model": model,
        "evaluator": evaluator,
        "metric": metric,
        "value": value,
        "stderr": stderr,
        "interval": interval,
    }


def _printed(scores, models, width=80) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(comparison("scores", scores, models, console))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def test_models_stand_side_by_side():
    """Metrics below their evaluator's name; what a model has no score of is empty."""
    scores = [  # the baseline comes first, whatever the order of the columns
        _score("base", "answers", "reward", -0.5, 0.04),
        _score("base", "answers", "answer_tokens", 21.34, 0.9),
        _score("base", "perplexity", "perplexity", 1254.2, 130.0),
        _score("tuned", "answers", "reward", 0.3, 0.04),
        _score("tuned", "answers", "answer_tokens", 20.0, 0.9),
        _score("tuned", "answers", "gain_over_base", 0.8, 0.031, (0.7392, 0.8608)),
        _score("tuned", "perplexity", "perplexity", 1000.0, 80.0),
    ]
    assert _printed(scores, ["base", "tuned"]) == [
        "scores                        base          tuned",
        "  answers",
        "    reward          -0.500 ± 0.078  0.300 ± 0.078",
        "    answer tokens       21.3 ± 1.8     20.0 ± 1.8",
        "    gain over base                  0.800 ± 0.061",
        "  perplexity            1254 ± 255     1000 ± 157",
        "  ± half of a 95 % interval",
    ]


def test_a_clean_score_stands_below_the_score_of_all_items():
    """With its number of items, and a note of what it is."""
    scores = [
        {**_score("base", "quiz", metric, value, 0.02), "n": n}
        for metric, value, n in [("acc", 0.75, 1400), ("acc_clean", 0.5, 1234)]
    ]
    assert _printed(scores, ["base"]) == [
        "scores                               base",
        "  quiz",
        "    acc                     0.750 ± 0.039",
        "    acc clean, 1,234 items  0.500 ± 0.039",
        "  ± half of a 95 % interval",
        "  clean: without the items found in documents prepared for training",
    ]


@pytest.mark.parametrize(
    ("score", "figure"),
    [
        ((0.29087, 0.0306), "0.291 ± 0.060"),
        ((12345.6, 2000.0), "12346 ± 3920"),
        ((12345.6, None), "1.235e+04"),
        ((0.0, 0.0), "0"),
        ((0.5, 0.1, (0.25, 0.6)), "0.50 [0.25, 0.60]"),
        ((0.5, 0.1, (0.5, 0.5)), "0.5"),
    ],
)
def test_a_figure_has_the_digits_that_mean_something(score, figure):
    """Two of half the interval, and of the value as many places; lopsided intervals have both ends."""
    line = _printed([_score("a", "e", "m", *score), _score("b", "e", "m", 1.0)], ["a", "b"])[2]
    assert line.split() == ["m", *figure.split(), "1"]


def test_models_that_do_not_fit_have_a_table_below():
    """All figures are there, each table as wide as it may be."""
    models = [f"model-{n}" for n in range(7)]
    scores = [_score(m, "e", "some_metric", 0.125 * n, 0.01) for n, m in enumerate(models)]
    lines = _printed(scores, models)
    heads = [line.split()[1:] for line in lines if line.startswith("scores")]
    assert heads == [models[:4], models[4:]]
    figures = " ".join(line for line in lines if "some metric" in line)
    assert figures.count("±") == 7
    assert [line.split() for line in _printed(scores, models, width=20) if "model" in line][6] == [
        "scores",
        "model-6",
    ]
