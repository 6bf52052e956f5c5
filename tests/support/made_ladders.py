"""Ladders of trainings whose losses follow a known law, with or without noise."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from engine_scaling.points.point import Point, Points

from engine import ScalingLaw

LAW = ScalingLaw(E=1.0, A=20.0, alpha=0.3, B=60.0, beta=0.3)
HOFFMANN = ScalingLaw(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
SMALL = ScalingLaw(E=1.0, A=15.0, alpha=0.28, B=120.0, beta=0.34)
"""A law of small models. Its exponents differ: a fit with one exponent is not exact by chance."""


def ladder(
    law: ScalingLaw = LAW,
    *,
    budgets: int = 4,
    sizes: int = 5,
    spread: float = 4,
    apart: float = 4,
    first: float = 1e13,
    noise: float = 0.0,
    seed: int = 0,
) -> list[Point]:
    """Runs of budgets ``apart``, each with sizes from 1/spread to spread times the best.

    ``apart``: the factor between budgets; ``noise``: standard deviation of ln L.
    """
    random = np.random.default_rng(seed)
    points = []
    for budget in range(budgets):
        flops = first * apart**budget
        for number, size in enumerate(np.geomspace(1 / spread, spread, sizes)):
            parameters = float(law.optimum(flops)[0] * size)
            tokens = flops / 6 / parameters
            loss = law.loss(parameters, tokens) * float(np.exp(noise * random.standard_normal()))
            name = f"budget{budget}-size{number}"
            points.append(Point(name, parameters, tokens, loss, flops, steps=1000))
    return points


def as_points(points: Iterable[Point]) -> Points:
    """Points of one tokenizer and text."""
    return Points(tuple(points), tokenizer="t", held_out="h")


def written(file: Path, points: Iterable[Point], **more: object) -> Path:
    """Writes a table of points with the columns that they fill, and ``more`` in each row."""
    rows = [
        {k: v for k, v in {**asdict(p), **more}.items() if v == v and v not in ("", None, 0)}
        for p in points
    ]
    with file.open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file
