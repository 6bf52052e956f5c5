"""What a training loop is told, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.component import Callback, Progress
from engine.config import Amount
from engine.errors import RunError
from engine.requests import Score

SEQUENCE = 1024
"""Tokens in a row where neither spec nor model says."""
MICRO_TOKENS = 8192


def micro_rows(micro_tokens: int | None, sequence: int) -> int:
    """Rows in one forward pass."""
    return max(1, (micro_tokens or MICRO_TOKENS) // sequence)


@dataclass(frozen=True, slots=True)
class Ramp:
    """Tokens of a global batch: first · factor^⌊t / every⌋, at most ``most``."""

    first: int
    every: Amount | None = None
    factor: float = 2.0
    most: int | None = None

    def tokens(self, progress: Progress) -> int:
        """At this point of the stage."""
        if self.every is None:
            return self.first
        most = self.most or 16 * self.first
        power = min(math.floor(progress.reached(self.every)), 64)
        return int(min(self.first * self.factor**power, most))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Something to score now and then: ``run`` is collective and gives scores on every rank."""

    name: str
    every: Amount | None
    run: Callable[[], list[Score]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop is to do.

    ``sequence`` counts tokens in a row, ``micro_rows`` rows in one forward pass. ``versions`` are
    those on which exact numbers depend; ``inexact`` resumes with others all the same. ``inputs`` are
    digests of what training is made from, by name. ``compile`` says that layers are compiled.
    ``overhead`` is what a micro-batch costs beside its tokens, in tokens.
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

    def rows_at_once(self, rows: int, pieces: int) -> int:
        """Rows of a micro-batch: as many as allowed, in at least ``pieces`` if there are enough."""
        return min(self.micro_rows, max(1, rows // pieces))

    def check_versions(self, saved: Mapping[str, str]) -> None:
        """Raises RunError where numbers might come out differently and nobody allowed that."""
        other = {k: v for k, v in saved.items() if self.versions.get(k) != v}
        if other and not self.inexact:
            was = ", ".join(f"{k} {v}" for k, v in other.items())
            now = ", ".join(f"{k} {self.versions.get(k)}" for k in other)
            raise RunError(
                f"{self.stage}: its checkpoint was written with {was}; here is {now}",
                mend="install the same, or go on with `--allow versions`: the weights will not be"
                " bit-identical to an unbroken run's",
            )

    def check_inputs(self, saved: Mapping[str, str]) -> None:
        """Raises RunError where training would go on with something else than it began with."""
        other = [name for name, digest in self.inputs.items() if saved.get(name, digest) != digest]
        if other:
            raise RunError(
                f"{self.stage}: {' and '.join(other)} changed since its last checkpoint was written: "
                "it would go on with something else than it began with",
                mend=f"put back what was there, or begin anew with --rerun {self.stage}",
            )


@dataclass
class State:
    """Where training is. Saved with every checkpoint.

    ``cursor`` is the global index of the next sample, ``samples`` how many were used, ``seconds``
    the time spent in steps, ``skipped`` the steps skipped in a row, ``ended`` why a callback ended
    the stage. ``excluded`` are ranges of samples left out; ``windows`` the last steps, each with
    the range it read.
    """

    step: int = 0
    tokens: int = 0
    cursor: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    ended: str | None = None
    excluded: list[tuple[int, int]] = field(default_factory=list)
    windows: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the loop ended: ``done``, or ``stopped`` by a signal to be continued."""

    status: str
    state: State
    scores: Sequence[Score] = ()


def crossed(every: Amount, before: Progress, now: Progress) -> bool:
    """Whether a multiple of the interval lies between two points."""
    return math.floor(now.reached(every)) > math.floor(before.reached(every))


def named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """By class, numbered where there are several: the spec may order or add others meanwhile."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        cls = type(callback)
        same = sum(type(c) is cls for c in named.values())
        named[f"{cls.__module__}.{cls.__qualname__}/{same}"] = callback
    return named
