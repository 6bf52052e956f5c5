"""Few-shot examples before a row, drawn as in lm-eval, so that prompts agree."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

from engine import RunError
from engine_evals.benchmarks.row_files import Row

_SEED = 1234
"""lm-eval's seed for examples."""


class Examples:
    """Few-shot examples, each a row and its text.

    ``order`` "random" draws new examples for each row, in the rows' order; "first" always takes the
    first. If examples come from the scored rows (``spare``), one more is drawn, and a row is never its
    own example.
    """

    def __init__(
        self,
        benchmark: str,
        pool: Sequence[tuple[Row, str]],
        shots: int,
        order: Literal["random", "first"],
        *,
        spare: bool,
    ) -> None:
        if len(pool) < shots + (spare and shots > 0):
            raise RunError(
                f"{benchmark}: {shots} examples before each row, but only {len(pool)} rows to take "
                "them from",
                hint="lower 'shots'",
            )
        self._pool = pool
        self._shots = shots
        self._order = order
        self._spare = spare
        self._random = Random(_SEED)

    def before(self, row: Row) -> str:
        """The texts of the examples for the next row."""
        return "".join(text for _, text in self._drawn(row)) if self._shots else ""

    def _drawn(self, row: Row) -> Sequence[tuple[Row, str]]:
        if not self._spare:
            if self._order == "first":
                return self._pool[: self._shots]
            return self._random.sample(self._pool, self._shots)
        if self._order == "first":
            return _without(row, self._pool)[: self._shots]
        found = _without(row, self._random.sample(self._pool, self._shots + 1))[: self._shots]
        if len(found) < self._shots:  # the row occurs more than once
            found = self._random.sample(_without(row, self._pool), self._shots)
        return found


def _without(row: Row, pool: Sequence[tuple[Row, str]]) -> list[tuple[Row, str]]:
    return [example for example in pool if example[0] != row]
