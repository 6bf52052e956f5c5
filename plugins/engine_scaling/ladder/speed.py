"""How long a run of a ladder takes on this machine, from two short trainings of different sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine import RunError, read_json, write_durably
from engine_scaling.ladder.models import Size
from engine_scaling.runner import Outcome

STEPS = 30
"""Steps of a measured training; the first tenth, in which memory is first used, does not count."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Two lines over the FLOPs of a token: ``step_seconds`` + FLOPs of a step / ``flops_per_second`` is
    the time of a step; ``fixed_seconds`` + FLOPs of a token · ``scoring`` that of all else, such as
    start and scores."""

    step_seconds: float
    flops_per_second: float
    fixed_seconds: float
    scoring: float

    def seconds(self, size: Size, steps: int, batch: int) -> float:
        """The time of a run of so many steps of ``batch`` tokens."""
        step = self.step_seconds + size.token_flops * batch / self.flops_per_second
        return steps * step + self.fixed_seconds + self.scoring * size.token_flops

    def save(self, file: Path) -> None:
        """Writes it."""
        write_durably(file, json_text(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> Speed:
        """Reads it. Raises RunError if the file is damaged."""
        try:
            return cls(**{name: float(value) for name, value in read_json(file).items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise RunError(
                f"{file}: is damaged ({error})", hint="remove it: it is made again"
            ) from error


def json_text(data: Any) -> str:
    """JSON as the files of a ladder have it."""
    import json

    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def measured(sizes: tuple[Size, Size], outcomes: tuple[Outcome, Outcome], batch: int) -> Speed:
    """The speed from two finished trainings, of a smaller and a larger model."""
    steps = [_step_seconds(outcome) for outcome in outcomes]
    rest = [_rest_seconds(outcome) for outcome in outcomes]
    flops = [size.token_flops for size in sizes]
    fixed, slope = _line(flops, steps)
    other, scoring = _line(flops, rest)
    return Speed(fixed, batch / slope, other, scoring)


def _line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Height and slope of the line through two points, both at least 0: of noise alone, the line from 0
    through the second point."""
    slope = (y[1] - y[0]) / (x[1] - x[0])
    height = y[0] - slope * x[0]
    if slope <= 0 or height < 0:
        return 0.0, y[1] / x[1]
    return height, slope


def _step_seconds(outcome: Outcome) -> float:
    """Median seconds of a step."""
    columns = outcome.stage.steps.columns()
    tokens = np.diff(columns["tokens"], prepend=0.0)
    seconds = tokens / columns["tokens_per_second"]
    return float(np.median(seconds[len(seconds) // 10 :]))


def _rest_seconds(outcome: Outcome) -> float:
    """Seconds of the process that are not steps; of a run that was done before, those of its stage."""
    whole = outcome.seconds or float(outcome.stage.summary.get("seconds", 0.0))
    return max(whole - float(outcome.stage.summary["training_seconds"]), 1e-3)
