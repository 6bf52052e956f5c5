"""The ways to fit a law: what N counts, which constants are free, and which runs are used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from engine import effective_tokens
from engine_scaling.laws.budgets import budgets_of
from engine_scaling.laws.form import Array, Form, Offset
from engine_scaling.laws.solver import Data
from engine_scaling.points.point import Point

LEAST_RATIO = 5
"""Tokens per parameter below which a run may be left out: far from any published optimum."""
LEAST_STEPS = 200
"""Steps below which a run may be left out: warm-up and decay are most of it."""

Counted = Literal["all", "body"]


@dataclass(frozen=True, slots=True)
class Table:
    """Points as arrays of shape ``(points,)``: ``all`` and ``body`` parameters, ``tokens`` as effective
    ones, ``flops``, and ``z`` = ln L. ``budget`` numbers the budgets, of which the smallest is 0;
    ``kept`` has for each rule of leaving out whether a point is used. A rule that leaves no sizes on
    one side of the best in most budgets is none: what remains does not tell the best size.
    """

    names: tuple[str, ...]
    all: Array
    body: Array
    tokens: Array
    flops: Array
    z: Array
    budget: Array
    fresh: Array
    kept: dict[str, Array]

    @classmethod
    def of(cls, points: tuple[Point, ...], repeats: float) -> Table:
        """The table of points; ``repeats`` is R* of :func:`engine.effective_tokens`."""
        tokens = [
            effective_tokens(p.tokens if math.isnan(p.unique) else p.unique, p.tokens, repeats)
            for p in points
        ]
        flops = np.array([p.flops for p in points])
        steps = np.array([p.steps or math.inf for p in points])
        ratio = np.array([p.tokens / p.parameters for p in points])
        rules = {
            "": np.ones(len(points), bool),
            f"D ≥ {LEAST_RATIO}N": ratio >= LEAST_RATIO,
            f"≥ {LEAST_STEPS} steps": steps >= LEAST_STEPS,
        }
        found = cls(
            tuple(p.name for p in points),
            np.array([p.parameters for p in points]),
            np.array([p.body for p in points]),
            np.array(tokens),
            flops,
            np.log([p.loss for p in points]),
            budgets_of(flops),
            np.array([p.tokens for p in points]),
            rules,
        )
        told = found.turning(rules[""])
        return replace(
            found,
            kept={
                rule: kept
                for rule, kept in rules.items()
                if 2 * len(told & found.turning(kept)) >= len(told)
            },
        )

    def turning(self, kept: Array) -> set[int]:
        """The budgets in which the best size of the runs kept has smaller and larger ones beside it."""
        found = set()
        for budget in range(int(self.budget.max()) + 1):
            own = np.flatnonzero(kept & (self.budget == budget))
            if len(own):
                best = self.all[own[self.z[own].argmin()]]
                if self.all[own].min() < best < self.all[own].max():
                    found.add(budget)
        return found


@dataclass(frozen=True, slots=True)
class Way:
    """A way to fit: what N counts, the law's form, and the rule of which runs are used."""

    counted: Counted
    form: Form
    rule: str = ""

    @property
    def name(self) -> str:
        """What the way is called in tables."""
        offset: dict[Offset, str] = {"free": "E free", "limited": "E ≤ L/2", "none": "E = 0"}
        parts = [
            f"N {self.counted}",
            "α = β" if self.form.tied else "α ≠ β",
            offset[self.form.offset],
        ]
        return ", ".join(parts + ([self.rule] if self.rule else []))

    def data(
        self,
        table: Table,
        weight: Array | None = None,
        z: Array | None = None,
        tokens: Array | None = None,
    ) -> Data:
        """The points of this way; ``weight``, ``z`` and the logarithms of ``tokens`` of shape
        ``(sets, points)`` where they are not those of the table."""
        kept = table.kept[self.rule]
        return Data(
            np.log(self.sizes(table)[kept])[None],
            (np.log(table.tokens)[None] if tokens is None else tokens)[:, kept],
            (table.z[None] if z is None else z)[:, kept],
            (np.ones((1, len(kept))) if weight is None else weight)[:, kept],
        )

    def sizes(self, table: Table) -> Array:
        """The parameters of all points, as this way counts them."""
        return table.all if self.counted == "all" else table.body

    @property
    def freest(self) -> Way:
        """The same way without a tie of exponents or a limit of E."""
        return Way(self.counted, Form(), self.rule)

    def free(self) -> int:
        """The number of free constants."""
        return int(self.form.directions().shape[1])


def ways(table: Table) -> Iterator[Way]:
    """The ways that differ on these points, the plainest first: a rule that leaves nothing out, or too
    little to fit, gives none, and neither does a count that is not known of all points."""
    counts: tuple[Counted, ...] = ("all", "body") if np.isfinite(table.body).all() else ("all",)
    if len(counts) > 1 and np.ptp(np.log(table.body / table.all)) < 1e-9:
        counts = ("all",)
    seen: list[Array] = []
    for rule, kept in table.kept.items():
        if any(np.array_equal(kept, other) for other in seen):
            continue
        seen.append(kept)
        offsets: tuple[Offset, ...] = ("free", "limited", "none")
        for counted, tied, offset in product(counts, (False, True), offsets):
            way = Way(counted, Form(tied, offset), rule)
            if kept.sum() > way.free() and len(set(table.budget[kept])) > 1:
                yield way
