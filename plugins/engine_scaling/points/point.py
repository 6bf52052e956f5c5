"""The points that laws are fitted to: finished trainings with their size, data and held-out loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine import cleaned

METRIC = "nats per token"
"""What the loss of a point is."""
_NAMED = 4
"""Trainings that a message names."""


@dataclass(frozen=True, slots=True)
class Point:
    """A finished training.

    ``parameters``: all of the model's; ``body``: those that are neither in the embedding nor in the
    head, NaN if unknown; ``tokens``: those trained on, ``unique``: how many of them are different, NaN
    if unknown; ``steps``: 0 if unknown; ``flops``: those of the model in training; ``loss``: on
    held-out text, in nats per token, with its standard error ``stderr``, NaN if unknown;
    ``bits_per_byte``: the same loss in another unit, NaN if unknown; ``seed``: the run's, and
    the number of its repetition, None if unknown; ``tokenizer`` and ``held_out``: fingerprints of what
    the loss was measured with, empty if unknown.
    """

    name: str
    parameters: float
    tokens: float
    loss: float
    flops: float
    body: float = math.nan
    unique: float = math.nan
    steps: int = 0
    stderr: float = math.nan
    bits_per_byte: float = math.nan
    seed: tuple[int | None, int] | None = None
    tokenizer: str = ""
    held_out: str = ""


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one tokenizer and one held-out text, whose fingerprints are empty if unknown.

    ``left_out``: names of trainings that are no points, with the reason; ``notes``: what the reader
    should know of the points.
    """

    points: tuple[Point, ...]
    metric: str = METRIC
    tokenizer: str = ""
    held_out: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Found:
    """What was read so far: points, trainings that are none with the reason, notes, and a training for
    each length of rows in tokens; ``repeated``: trainings that were given before; ``held_out``: points
    that a sweep holds out."""

    points: list[Point] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lengths: dict[int, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    _first: dict[str, str] = field(default_factory=dict)

    def add(self, point: Point, given: str = "") -> None:
        """Adds a point once: one that is alike in all figures, seed and fingerprints is the same
        training, whatever its folder is called. ``given``: what a table calls it."""
        first = self._first.setdefault(repr(replace(point, name=given)), point.name)
        if len(self._first) > len(self.points):
            self.points.append(point)
        else:
            self.repeated.append(
                point.name if first == point.name else f"{point.name} (as {first})"
            )


def some(names: Sequence[str], between: str = ", ") -> str:
    """Names for a message; of many the first few, and how many more there are."""
    shown = between.join(map(cleaned, names[:_NAMED]))
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
