"""The points that laws are fitted to: finished trainings with their size, data and held-out loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine import SpecError, cleaned

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
    ``bits_per_byte``: the same loss in another unit, NaN if unknown; ``seed``: the run's, None if
    unknown; ``tokenizer`` and ``held_out``: fingerprints of what the loss was measured with, empty if
    unknown.
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
    seed: int | None = None
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
    each length of rows in tokens."""

    points: list[Point] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lengths: dict[int, str] = field(default_factory=dict)


def read_points(paths: Sequence[Path]) -> Points:
    """The points of runs' folders, of folders that hold runs, and of tables (.csv).

    Raises SpecError for what is neither, for damaged tables, and where tokenizers or held-out texts
    differ; RunError for what cannot be read.
    """
    from engine_scaling.run_points import add_run, runs_in
    from engine_scaling.table_points import add_table

    found = Found()
    for path in paths:
        if path.suffix == ".csv":
            add_table(path, found)
        else:
            for run in runs_in(path):
                add_run(run, found)
    if len(found.lengths) > 1:
        rows = ", ".join(f"{length:,} tokens in {name}" for length, name in found.lengths.items())
        found.notes.append(f"Rows differ ({rows}), and with them what a held-out token can see.")
    return Points(
        tuple(found.points),
        tokenizer=_one_of(found.points, "tokenizer"),
        held_out=_one_of(found.points, "held_out"),
        left_out=tuple(found.left_out),
        notes=tuple(dict.fromkeys(found.notes)),
    )


def _one_of(points: Iterable[Point], what: str) -> str:
    """The one fingerprint that all points with a known one have. Raises SpecError."""
    groups: dict[str, list[str]] = {}
    for point in points:
        print_ = point.tokenizer if what == "tokenizer" else point.held_out
        if print_:
            groups.setdefault(print_, []).append(point.name)
    if len(groups) > 1:
        told = "; ".join(f"{key[:12]}: {some(names)}" for key, names in groups.items())
        plain = "tokenizers" if what == "tokenizer" else "held-out texts"
        raise SpecError(
            f"the losses were measured with different {plain} and cannot be compared: {told}",
            hint="name runs of one prepared corpus, with the same settings of perplexity",
        )
    return next(iter(groups), "")


def some(names: Sequence[str]) -> str:
    """Names for a message; of many the first few, and how many more there are."""
    shown = ", ".join(map(cleaned, names[:_NAMED]))
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
