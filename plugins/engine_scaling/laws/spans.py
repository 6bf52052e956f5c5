"""A figure with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import FittedLaw
from engine_scaling.laws.form import Array


@dataclass(frozen=True, slots=True)
class Span:
    """A figure with its interval of 95 %."""

    value: float
    low: float
    high: float


def span_of(law: FittedLaw, value: float, drawn: Array) -> Span:
    """The span of a figure from its values for the draws of all variants."""
    low, high = law.span([float(one) for one in drawn])
    return Span(float(value), min(low, float(value)), max(high, float(value)))


def quantiles(value: float, drawn: Array) -> Span:
    """The span of a figure from its values for the draws of one fit; those without one do not count."""
    known = np.append(drawn[np.isfinite(drawn)], value)
    low, high = np.quantile(known, (0.025, 0.975))
    return Span(float(value), min(float(low), float(value)), max(float(high), float(value)))
