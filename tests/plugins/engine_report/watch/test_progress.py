"""How much of a budget is spent, and the time that is left, by the log alone."""

from __future__ import annotations

import json

import pytest
from engine_report.watch.progress import progress_of
from engine_report.watch.words import duration, figure

from engine import RunHistory


@pytest.fixture
def stage(tmp_path):
    """A stage of ten steps that took two seconds each, one of them in the step itself."""
    history = RunHistory(tmp_path)
    told = [{"event": "training", "rows": 40}, {"event": "rows_chosen", "sequence": 32}]
    steps = [
        {"event": "step", "step": n, "tokens": 256 * n, "tokens_per_second": 256.0, "time": 2.0 * n}
        for n in range(1, 11)
    ]
    for event in (*told, *steps):
        history.add(json.dumps({"stage": "base", **event}).encode())
    pace = [event | {"stage": "base"} for event in steps[-5:]]
    return history.stages["base"], pace


def spec(budget, **train):
    return {"stages": {"base": {"train": {"batch": {"tokens": 256}, "budget": budget, **train}}}}


@pytest.mark.parametrize(
    ("budget", "share", "left"),
    [
        ("40 steps", 0.25, 60.0),
        ("10240 tokens", 0.25, 60.0),
        ("20 seconds", 0.5, 10.0),
        ("4 epochs", 0.5, 20.0),
        ("10 steps", 1.0, 0.0),
    ],
)
def test_budgets_of_every_unit(stage, budget, share, left):
    """Of a budget in epochs by the rows of each step; time is that of the last steps."""
    found = progress_of(stage[0], spec(budget))
    assert found.share == pytest.approx(share)
    assert found.seconds_left(stage[1]) == pytest.approx(left)


@pytest.mark.parametrize(
    ("batch", "share"),
    [({"tokens": 16384, "examples": 4}, 0.25), ({"tokens": 512, "sequence": 64}, 0.5)],
)
def test_epochs_by_the_batch_of_the_spec(stage, batch, share):
    """Examples if it counts them, else its rows."""
    assert progress_of(stage[0], spec("4 epochs", batch=batch)).share == pytest.approx(share)


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"stages": []},
        spec("lots"),
        spec("0 steps"),
        spec(["x"]),
        spec("4 epochs", batch={"tokens": 256, "ramp": {"every": "2 steps"}}),
        spec("4 epochs", batch="x"),
    ],
)
def test_what_cannot_be_told(stage, damaged):
    """A damaged spec, and epochs of batches that grow, have no progress rather than a wrong one."""
    assert progress_of(stage[0], damaged) is None


@pytest.mark.parametrize("pace", [[], [{"time": 1.0, "step": 3}], [{"step": 3}, {"time": "x"}]])
def test_too_few_steps_for_a_time(stage, pace):
    """Leave it out."""
    assert progress_of(stage[0], spec("40 steps")).seconds_left(pace) is None


def test_words():
    """Times in two units, figures with theirs."""
    assert [duration(s) for s in (float("nan"), float("inf"))] == ["-", "-"]
    told = (duration(s) for s in (0, 59.4, 60, 3725, 86400 * 2 + 3600, -1))
    assert list(told) == ["0 s", "59 s", "1 min 0 s", "1 h 2 min", "2 d 1 h", "0 s"]
    assert figure("memory", 2_500_000_000) == "2.50 GB"
    assert figure("utilisation", 0.4123) == "41.2%"
    assert figure("tokens_per_second", 12345.6) == "12,346"
    assert figure("lr", 0.00012345) == "0.0001234"
    assert [figure("loss", bad) for bad in (None, float("nan"), True, "x", 10**400)] == ["-"] * 5
    assert list(map(duration, (119.6, 3599.6, 86399.6))) == ["2 min 0 s", "1 h 0 min", "1 d 0 h"]
