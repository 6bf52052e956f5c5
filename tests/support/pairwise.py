"""Few rows in which every pair of settings stands together: a pairwise covering array.

Most faults of a combination need only two settings (Kuhn, Wallace & Gallo 2004, "Software fault
interactions and implications for software testing").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

Row = dict[str, str]


def covering(
    factors: Mapping[str, Sequence[str]], allowed: Callable[[Row], bool] = lambda row: True
) -> list[Row]:
    """Rows with a value of every factor; greedy (as AETG, Cohen et al. 1997), so not the fewest.

    ``allowed`` judges rows that may lack factors. Each row begins with the first pair that is not
    covered yet, and takes of every other factor, in their order, the value that covers the most;
    where several do, row by row another one.
    """
    left = dict.fromkeys(_pairs_of(factors, allowed))
    rows = []
    while left:
        row: Row = dict(next(iter(left)))
        for name, values in factors.items():
            if name not in row:
                turn = len(rows) % len(values)
                turned = (*values[turn:], *values[:turn])
                fitting = [v for v in turned if allowed({**row, name: v})]
                row[name] = max(fitting, key=lambda v: len(left.keys() & _with(row, name, v)))
        rows.append({name: row[name] for name in factors})
        for pair in combinations(rows[-1].items(), 2):
            left.pop(pair, None)
    return rows


def _pairs_of(factors, allowed):
    for (a, its), (b, others) in combinations(factors.items(), 2):
        for pair in (((a, x), (b, y)) for x in its for y in others):
            if allowed(dict(pair)):
                yield pair


def _with(row, name, value):
    """Pairs of the value with what the row has, in either order."""
    new = (name, value)
    return {pair for one in row.items() for pair in ((one, new), (new, one))}
