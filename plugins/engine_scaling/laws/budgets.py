"""Sorts runs into budgets by their FLOPs. Every method takes the budgets of this module."""

from __future__ import annotations

import math

import numpy as np

from engine_scaling.laws.form import Array

_NEXT = 1.25
"""Ratio of FLOPs up to which runs next to each other have one budget."""
_SPAN = 2.0
"""Ratio of the largest FLOPs of a budget to the smallest from which these are no budget."""
_BIN = 4.0
"""Factor between budgets where the runs have none of their own."""


def clusters(flops: Array) -> list[Array]:
    """The runs of each budget, as numbers of runs, from the smallest on. Where gaps leave runs
    together that differ by a factor of two or more, these are no budget and not among them."""
    return [group for group in _groups(flops) if _together(flops[group])]


def budgets_of(flops: Array) -> Array:
    """The number of each run's budget, 0 for the smallest; both of shape ``(runs,)``.

    Budgets are told by gaps. Scattered runs have none: gaps leave some together that differ by a factor
    of two, or most alone. They are sorted into bins whose middles are a factor of four apart, the
    largest run being the middle of the last.
    """
    groups = _groups(flops)
    if 2 * len(groups) <= len(flops) and all(_together(flops[group]) for group in groups):
        numbers = np.empty(len(flops), int)
        for number, group in enumerate(groups):
            numbers[group] = number
        return numbers
    bins = np.rint(np.log(flops / flops.max()) / math.log(_BIN))
    return np.asarray(np.unique(bins, return_inverse=True)[1])


def middle_of(flops: Array) -> float:
    """The geometric mean, which stands for the FLOPs of a budget's runs."""
    return float(np.exp(np.log(flops).mean()))


def _groups(flops: Array) -> list[Array]:
    order = np.argsort(flops)
    gaps = np.flatnonzero(np.diff(np.log(flops[order])) > math.log(_NEXT)) + 1
    return np.split(order, gaps)


def _together(flops: Array) -> bool:
    return bool(flops.max() < _SPAN * flops.min())
