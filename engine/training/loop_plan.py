"""The plan of a training loop, and its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.contracts.amounts import Amount
from engine.contracts.callback import Callback
from engine.contracts.feed import State
from engine.contracts.optimizer import Progress
from engine.contracts.scoring import Score
from engine.errors import RunError
from engine.evaluation import Measured
from engine.storage.stage_record import changed_versions

SKIPS_ALLOWED = 50
"""Skipped steps in a row after which training fails; fp16's loss scale settles in fewer."""


def skipped_too_often(stage: str, figures: Mapping[str, Any]) -> RunError:
    """The error for a training that skips every step, with the last step's figures."""
    norms = ", ".join(
        f"gradient norm{name.removeprefix('grad_norm').replace('/', ' of ')} {value}"
        for name, value in figures.items()
        if name.startswith("grad_norm")
    )
    return RunError(
        f"{stage}: {SKIPS_ALLOWED} steps in a row were skipped, the last with "
        f"loss {figures['loss']} and {norms}",
        hint="lower the learning rate, use bf16, or look at the data with `engine data`",
    )


@dataclass(frozen=True, slots=True)
class Ramp:
    """Tokens of a global batch: first · factor^⌊progress / every⌋, at most ``most``."""

    first: int
    every: Amount | None = None
    factor: float = 2.0
    most: int | None = None

    def tokens(self, progress: Progress) -> int:
        """Tokens of the global batch at this point of the stage."""
        if self.every is None:
            return self.first
        most = self.most or 16 * self.first
        power = min(math.floor(progress.reached(self.every)), 64)
        return int(min(self.first * self.factor**power, most))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation at intervals: ``run`` is collective and returns the same on every rank."""

    name: str
    every: Amount | None
    run: Callable[[], Measured]


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of the loop.

    ``sequence`` is tokens in a row, ``micro_rows`` rows in one forward pass. ``versions`` are those of
    distributions that affect exact numbers, plugins among them; ``inexact`` allows resuming with
    others. ``inputs`` are digests of the training's inputs, by name. ``compile`` says whether layers
    are compiled. ``overhead`` is the fixed cost of a micro-batch, in tokens. ``peak_tokens`` are the
    tokens per second whose FLOPs would be the peak speed of all ranks' devices; None if unknown.
    """

    stage: str
    seed: int
    sequence: int
    micro_rows: int
    ramp: Ramp
    budget: Amount
    lr: float
    clip: float | None
    checkpoint_every: Amount
    evaluations: Sequence[Evaluation] = ()
    check_every: Amount | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    inexact: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)
    compile: bool = False
    overhead: float = 0
    peak_tokens: float | None = None

    @property
    def first_tokens(self) -> int:
        """Tokens in the first global batch."""
        return self.ramp.first

    def batch_tokens(self, progress: Progress) -> int:
        """Tokens in the global batch at this point of the stage."""
        return self.ramp.tokens(progress)

    def speed(self, tokens: int, seconds: float) -> dict[str, float]:
        """What a step's event says of its speed: tokens per second of all ranks, and ``utilisation``,
        the model's FLOPs per second relative to the peak."""
        figures = {"tokens_per_second": round(tokens / seconds, 1)}
        if self.peak_tokens:
            figures["utilisation"] = float(f"{tokens / seconds / self.peak_tokens:.4g}")
        return figures

    def check_versions(self, saved: Mapping[str, str]) -> None:
        """Raises RunError if other versions may change numbers and the user has not allowed that."""
        was, now = (
            {name: f"{name} {version}" for name, version in versions.items()}
            for versions in (saved, self.versions)
        )
        changed = changed_versions(was, now)
        if changed and not self.inexact:
            raise RunError(
                f"{self.stage}: its checkpoint was written with {changed[0]}, but {changed[1]} is "
                "installed",
                hint="install the same versions, or resume with `--allow versions`: the weights will "
                "not be bit-identical to those of an uninterrupted run",
            )

    def check_inputs(self, saved: Mapping[str, str]) -> None:
        """Raises RunError if an input of the training has changed since its checkpoint."""
        other = [name for name, digest in self.inputs.items() if saved.get(name, digest) != digest]
        if other:
            raise RunError(
                f"{self.stage}: {' and '.join(other)} changed since its last checkpoint was written: "
                "it would continue with other inputs than it began with",
                hint=f"restore what was there, or start over with --rerun {self.stage}",
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the loop ended: ``done``, or ``stopped`` by a signal and to be resumed."""

    status: str
    state: State
    scores: Sequence[Score] = ()


def crossed(every: Amount, before: Progress, now: Progress) -> bool:
    """Whether a multiple of the interval lies between two points."""
    return math.floor(now.reached(every)) > math.floor(before.reached(every))


def named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Callbacks by class name, numbered within a class, as the spec may reorder or add callbacks before
    a resume."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        cls = type(callback)
        same = sum(type(c) is cls for c in named.values())
        named[f"{cls.__module__}.{cls.__qualname__}/{same}"] = callback
    return named
