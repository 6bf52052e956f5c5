"""The points that laws are fitted to: finished trainings with their size, data and held-out loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

METRIC = "nats per token"
"""What the loss of a point is, unless a table says otherwise."""


@dataclass(frozen=True, slots=True)
class Point:
    """A finished training.

    ``parameters``: all of the model's; ``body``: those that are neither in the embedding nor in the
    head, NaN if unknown; ``tokens``: those trained on, ``unique``: how many of them are different;
    ``steps``: 0 if unknown; ``flops``: those of the model in training; ``loss``: on held-out text, in
    nats per token, with its standard error ``stderr``, NaN if unknown; ``seed``: the run's, which tells
    repeated runs apart; ``bits_per_byte``: the same loss in another unit, NaN if unknown.
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
    seed: int | None = None
    bits_per_byte: float = math.nan


@dataclass(frozen=True, slots=True)
class Points:
    """Points that can be compared: of one tokenizer and one held-out text, whose fingerprints are
    empty if unknown. ``left_out``: names of trainings that are no points, with the reason; ``notes``:
    what the reader should know of the points."""

    points: tuple[Point, ...]
    metric: str = METRIC
    tokenizer: str = ""
    held_out: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_points(paths: Sequence[Path]) -> Points:
    """The points of runs' folders, of folders that hold runs, and of tables (.csv).

    Raises SpecError for what is neither, for damaged tables, and where tokenizers or held-out texts
    differ; RunError for what cannot be read.
    """
    raise NotImplementedError
