"""Which tokens several rows begin with, so that each of them is computed once.

Rows are sorted, so that those that begin alike are neighbours. What hangs together becomes a tree: one
packed row in which every token sees the tokens before it on its own row, and no others (the tree
mask of SpecInfer, Miao et al. 2024). Where a beginning is shared by more than a tree can hold, such
as worked examples before every question, trees have a prefix, whose keys and values are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

TREE = 512
"""Tokens of a tree beyond its prefix, unless a single row has more."""
_SHARED = 8
"""Tokens that rows must share to be in one tree; fewer are cheaper to compute again."""
_PREFIX = 32
"""Tokens that trees must share for their keys and values to be worth keeping."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to read. What follows position ``first`` and those after it is asked for."""

    tokens: Sequence[int]
    first: int


@dataclass(frozen=True, slots=True)
class Tree:
    """Rows, by number, in sorted order, and how many tokens they have beyond the prefix in all."""

    rows: tuple[int, ...]
    size: int

    def __add__(self, other: Tree) -> Tree:
        """Side by side in one row."""
        return Tree(self.rows + other.rows, self.size + other.size)


@dataclass(slots=True)
class Run:
    """Trees whose rows all begin with the same ``prefix`` tokens (perhaps 0)."""

    prefix: int
    trees: list[Tree] = field(default_factory=list)


def plan(rows: Sequence[Row]) -> list[Run]:
    """Every row in one tree of one run; the first run has no prefix."""
    planner = _Planner(rows)
    alone = Run(0)
    runs = [alone]
    starts = [i for i in range(len(rows)) if not i or planner.shared[i] < _SHARED]
    for start, end in pairwise([*starts, len(rows)]):
        planner.divide(start, end, alone, runs)
    return runs


def each_alone(rows: Sequence[Row]) -> list[Run]:
    """Nothing shared."""
    return [Run(0, [Tree((i,), len(row.tokens)) for i, row in enumerate(rows)])]


class _Planner:
    """``shared[i]``: tokens that sorted row i has in common with the one before it."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._order = sorted(range(len(rows)), key=lambda i: tuple(rows[i].tokens))
        self._rows = [rows[i] for i in self._order]
        self.shared = [0] * len(rows)
        for i in range(1, len(rows)):
            self.shared[i] = common(self._rows[i - 1].tokens, self._rows[i].tokens)

    def divide(self, start: int, end: int, run: Run, runs: list[Run]) -> None:
        """Puts sorted rows into trees of this run, or of new ones with longer prefixes."""
        left = [(start, end, run)]
        while left:
            start, end, run = left.pop()
            size = self._size(start, end, run.prefix)
            if size <= TREE or end - start == 1:
                self._add(start, end, size, run)
                continue
            least = min(self.shared[start + 1 : end])
            prefix = min(least, *(self._rows[i].first for i in range(start, end)))
            if prefix - run.prefix >= _PREFIX:
                run = Run(prefix)
                runs.append(run)
            cuts = [i for i in range(start + 1, end) if self.shared[i] == least]
            parts = pairwise([start, *cuts, end])
            left += reversed([(a, b, run) for a, b in parts])

    def _add(self, start: int, end: int, size: int, run: Run) -> None:
        """As a tree of its own, or with the one before, so that a prefix is read by fewer."""
        tree = Tree(tuple(self._order[start:end]), size)
        if run.prefix and run.trees and run.trees[-1].size + size <= TREE // 4:
            tree = run.trees.pop() + tree
        run.trees.append(tree)

    def _size(self, start: int, end: int, prefix: int) -> int:
        first = len(self._rows[start].tokens) - prefix
        return first + sum(
            len(self._rows[i].tokens) - max(prefix, self.shared[i]) for i in range(start + 1, end)
        )


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens both begin with."""
    most = min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    low, high = 0, most  # a[:low] == b[:low], a[:high] != b[:high]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low
