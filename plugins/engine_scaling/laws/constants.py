"""The constants of the believed law, with intervals over all variants, and which of them are told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine_scaling.laws.believed import Belief
from engine_scaling.laws.spans import Span, span_of

_WIDEST = 2.0
"""Ratio of an interval's ends above which a constant is not told."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant; ``told``: whether the runs tell it, which is to say that the ends of its interval
    are within a factor of two of each other."""

    name: str
    span: Span
    told: bool


def constants_of(belief: Belief) -> list[Constant]:
    """α, β, E, the exponent β/(α+β) of the best size over FLOPs by the law, and α − β, which is told if
    its interval leaves out zero."""
    laws = (belief.law.best, *belief.law.draws)
    alpha, beta, offset = (np.array([getattr(o, n) for o in laws]) for n in ("alpha", "beta", "E"))
    listed = [
        _constant(belief, name, values)
        for name, values in (
            ("α", alpha),
            ("β", beta),
            ("E", offset),
            ("β/(α+β)", beta / (alpha + beta)),
        )
    ]
    apart = span_of(belief.law, alpha[0] - beta[0], (alpha - beta)[1:])
    return [*listed, Constant("α − β", apart, apart.low > 0 or apart.high < 0)]


def _constant(
    belief: Belief, name: str, values: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> Constant:
    span = span_of(belief.law, values[0], values[1:])
    return Constant(name, span, 0 < span.high <= _WIDEST * span.low)
