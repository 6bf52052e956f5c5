"""The time that runs of a ladder take."""

from __future__ import annotations

import pytest
from engine_scaling.ladder.models import Size
from engine_scaling.ladder.speed import Speed, measured
from engine_scaling.runner import Job, Outcome

from engine import RunError, StageHistory

BATCH = 1000


def _size(flops: float) -> Size:
    return Size(8, 100, 50, flops, 0.01, {})


def _outcome(step: float, rest: float, steps: int = 20) -> Outcome:
    stage = StageHistory("base", summary={"training_seconds": step * steps})
    for number in range(1, steps + 1):
        slow = 10 if number == 1 else 1
        stage.steps.add(
            {"step": number, "tokens": BATCH * number, "tokens_per_second": BATCH / step / slow}
        )
    return Outcome(Job("speed", {}), "done", stage, seconds=step * steps + rest)


def test_two_trainings_tell_the_time_of_others():
    """A step has a fixed cost and one per FLOP, and so has the rest; a slow first step is left out."""
    sizes = _size(1e6), _size(4e6)
    speed = measured(sizes, (_outcome(0.02, 6.0), _outcome(0.05, 9.0)), BATCH)
    assert speed.step_seconds == pytest.approx(0.01)
    assert speed.flops_per_second == pytest.approx(1e11)
    assert speed.seconds(_size(2e6), 100, BATCH) == pytest.approx(100 * 0.03 + 7.0)


def test_noise_gives_no_negative_cost():
    """Where the larger model seems to be as fast, all of its time is taken for its FLOPs."""
    speed = measured((_size(1e6), _size(4e6)), (_outcome(0.05, 9.0), _outcome(0.05, 6.0)), BATCH)
    assert speed.step_seconds == 0
    assert speed.fixed_seconds == 0
    assert speed.seconds(_size(4e6), 1, BATCH) == pytest.approx(0.05 + 6.0)


def test_the_speed_is_kept(tmp_path):
    """What is read is what was written; a damaged file is named."""
    speed = Speed(0.01, 1e11, 5.0, 1e-6)
    file = tmp_path / "speed.json"
    speed.save(file)
    assert Speed.read(file) == speed
    file.write_text("{}")
    with pytest.raises(RunError, match=r"speed\.json: is damaged"):
        Speed.read(file)
