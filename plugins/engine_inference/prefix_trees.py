"""Groups rows by shared prefixes, so that each shared token is computed once.

Sorting makes rows with a common prefix neighbours. Such rows form a tree: one packed row in which every
token attends only to the tokens before it on its own row (the tree mask of SpecInfer, Miao et al.
2024). A prefix shared by more rows than a tree can hold, such as few-shot examples before every
question, is computed once and its keys and values are kept for several trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

TREE = 512
"""Most tokens of a tree beyond its prefix, unless a single row has more."""
_SHARED = 8
"""Fewest tokens that rows of a tree share; fewer are cheaper to recompute."""
_PREFIX = 32
"""Fewest shared tokens of trees for which keeping keys and values pays."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to read; the predictions at position ``first`` and later are scored."""

    tokens: Sequence[int]
    first: int


@dataclass(frozen=True, slots=True)
class Tree:
    """Numbers of rows in sorted order, and their total number of tokens beyond the prefix."""

    rows: tuple[int, ...]
    size: int

    def __add__(self, other: Tree) -> Tree:
        """Both trees, side by side in one row."""
        return Tree(self.rows + other.rows, self.size + other.size)


@dataclass(slots=True)
class Run:
    """Trees whose rows all share their first ``prefix`` tokens (possibly 0)."""

    prefix: int
    trees: list[Tree] = field(default_factory=list)


def plan(rows: Sequence[Row]) -> list[Run]:
    """Puts every row into one tree of one run; the first run has no prefix."""
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
    """``shared[i]`` is the number of first tokens that sorted rows i and i − 1 have in common."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._order = sorted(range(len(rows)), key=lambda i: tuple(rows[i].tokens))
        self._rows = [rows[i] for i in self._order]
        self.shared = [0] * len(rows)
        for number, (one, following) in enumerate(pairwise(self._rows), 1):
            self.shared[number] = common(one.tokens, following.tokens)

    def divide(self, start: int, end: int, run: Run, runs: list[Run]) -> None:
        """Puts sorted rows into trees of this run, or of new runs with longer prefixes."""
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
        """Adds a new tree, or joins it with the last one, so that fewer trees read the prefix."""
        tree = Tree(tuple(self._order[start:end]), size)
        if run.prefix and run.trees and run.trees[-1].size + size <= TREE // 4:
            tree = run.trees.pop() + tree
        run.trees.append(tree)

    def _size(self, start: int, end: int, prefix: int) -> int:
        first = len(self._rows[start].tokens) - prefix
        return first + sum(
            len(self._rows[i].tokens) - max(prefix, self.shared[i]) for i in range(start + 1, end)
        )


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common prefix of two token sequences."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    low, high = 0, most  # one[:low] == other[:low], one[:high] != other[:high]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low
