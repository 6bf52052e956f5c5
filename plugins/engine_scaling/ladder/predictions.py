"""Predictions of held-out runs, written before these start, and how they turned out.

A set of held-out runs is looked at once. If the law has changed since, by other runs or another method,
a new attempt needs other budgets, as a method that was chosen by what it predicts proves nothing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine import FittedLaw, RunError, SpecError, read_json, write_durably
from engine_scaling.ladder.rungs import Rung
from engine_scaling.ladder.speed import json_text
from engine_scaling.laws.budgets import budgets_of
from engine_scaling.points.point import Point


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out run: its budget over the largest fitted one, and its width over the best one."""

    factor: float
    wider: int = 1

    @classmethod
    def parse(cls, text: str) -> HeldOut:
        """``10`` or ``10x4``. Raises ValueError."""
        factor, x, wider = text.strip().partition("x")
        found = cls(float(factor), int(wider) if x else 1)
        if not 1 < found.factor < 1e6 or not 1 <= found.wider <= 1000:
            raise ValueError(f"{text!r}: a held-out budget is above 1, and a width from 1")
        return found

    def __str__(self) -> str:
        return f"{self.factor:g}" + (f"x{self.wider}" if self.wider > 1 else "")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted of a held-out run: the law's loss with its interval of 95 %, in nats a token;
    that of a line through the logarithms of the frontier's losses and FLOPs, and the best loss of the
    largest fitted budget. ``seconds``: the time it should take; ``spec``: SHA-256 of its spec."""

    name: str
    held_out: str
    width: int
    parameters: int
    body: int
    tokens: int
    steps: int
    flops: float
    seconds: float
    spec: str
    loss: float
    low: float
    high: float
    line: float
    last_rung: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """Predictions of one set of held-out runs, with the law's SHA-256 and the time of day in UTC.
    ``skipped``: held-out runs that were asked for and cannot be made, with the reason."""

    number: int
    date: str
    law: str
    skipped: dict[str, str]
    runs: tuple[Prediction, ...]

    @property
    def asked(self) -> set[str]:
        """The held-out runs that were asked for."""
        return {run.held_out for run in self.runs} | self.skipped.keys()

    def folder(self, sweep: Path) -> Path:
        """The attempt's folder."""
        return sweep / "attempts" / str(self.number)

    def save(self, sweep: Path, law: FittedLaw) -> None:
        """Writes the law and the predictions, these last."""
        folder = self.folder(sweep)
        write_durably(folder / "law.json", law.text())
        write_durably(folder / "predictions.json", json_text(asdict(self)))


def attempts(sweep: Path) -> list[Attempt]:
    """The attempts so far, in order. Raises RunError if a file is damaged."""
    found = []
    for file in sweep.glob("attempts/*/predictions.json"):
        try:
            data = read_json(file)
            runs = tuple(Prediction(**one) for one in data.pop("runs"))
            found.append(Attempt(**data, runs=runs))
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise RunError(f"{file}: is damaged ({error})") from error
    return sorted(found, key=lambda one: one.number)


def standing(
    before: Sequence[Attempt], law: FittedLaw, asked: Sequence[HeldOut], begun: Sequence[str]
) -> Attempt | int:
    """The attempt to go on with, or the number of a new one.

    ``begun``: names of the runs that were started. Raises SpecError where budgets are asked for that
    were looked at with another law.
    """
    if not before:
        return 1
    last, digest = before[-1], digest_of(law.text())
    if last.law == digest and last.asked == set(map(str, asked)):
        return last
    if not any(run.name in begun for run in last.runs):
        return last.number  # nothing of it was looked at
    seen = {
        HeldOut.parse(run.held_out).factor
        for attempt in before
        for run in attempt.runs
        if run.name in begun
    }
    again = sorted({one.factor for one in asked} & seen)
    if again:
        told = ", ".join(f"{factor:g}" for factor in again)
        others = ",".join(
            f"{one.factor * 1.25:g}" + str(one)[len(f"{one.factor:g}") :] for one in asked
        )
        raise SpecError(
            f"--held-out: {told} times the largest budget has been looked at on {last.date}, and the "
            "law is another one now",
            hint=f"hold out budgets that were not seen yet, such as --held-out {others}",
        )
    return last.number + 1


def predicted(
    rung: Rung,
    held_out: HeldOut,
    law: FittedLaw,
    points: Sequence[Point],
    batch: int,
    seconds: float,
) -> Prediction:
    """The prediction of a run; the digest of its spec is still empty."""
    tokens = rung.steps * batch
    flops = rung.size.token_flops * tokens
    forecast = law.predict(rung.size.parameters, rung.size.body, tokens)
    frontier = frontier_of(points)
    return Prediction(
        name=rung.name,
        held_out=str(held_out),
        width=rung.size.width,
        parameters=rung.size.parameters,
        body=rung.size.body,
        tokens=tokens,
        steps=rung.steps,
        flops=flops,
        seconds=seconds,
        spec="",
        loss=forecast.loss,
        low=forecast.low,
        high=forecast.high,
        line=line_through(frontier, flops),
        last_rung=frontier[-1].loss,
    )


def by_budget(points: Sequence[Point]) -> list[list[Point]]:
    """The points of each budget, from the smallest on."""
    ordered = sorted(points, key=lambda p: p.flops)
    numbers = budgets_of(np.array([p.flops for p in ordered]))
    return [
        [point for point, own in zip(ordered, numbers, strict=True) if own == number]
        for number in np.unique(numbers)
    ]


def frontier_of(points: Sequence[Point]) -> list[Point]:
    """The point of least loss at each budget, from the smallest budget on."""
    return [min(group, key=lambda p: p.loss) for group in by_budget(points)]


def line_through(frontier: Sequence[Point], flops: float) -> float:
    """The loss at ``flops`` by a line of least squares through ln loss over ln FLOPs."""
    if len(frontier) < 2:
        return frontier[-1].loss
    slope, height = np.polyfit(
        np.log([p.flops for p in frontier]), np.log([p.loss for p in frontier]), 1
    )
    return float(np.exp(height + slope * np.log(flops)))


@dataclass(frozen=True, slots=True)
class Result:
    """How a prediction turned out: the measured loss, and whether the interval holds it; relative
    errors of the law, the line and the last rung, of which positive ones were predicted too large."""

    prediction: Prediction
    measured: float
    inside: bool
    error: float
    line_error: float
    last_rung_error: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval, relative to the measured loss."""
        return (self.prediction.high - self.prediction.low) / 2 / self.measured


def results(attempt: Attempt, losses: Mapping[str, float]) -> list[Result]:
    """The results of the runs whose losses are known."""
    return [
        Result(
            run,
            losses[run.name],
            run.low <= losses[run.name] <= run.high,
            run.loss / losses[run.name] - 1,
            run.line / losses[run.name] - 1,
            run.last_rung / losses[run.name] - 1,
        )
        for run in attempt.runs
        if run.name in losses
    ]


def digest_of(text: str) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def now() -> str:
    """The time of day in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
