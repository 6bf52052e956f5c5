"""Configurations of the plugin of tests."""

from typing import ClassVar

from engine import PenaltyConfig, PenaltyInput


class LoadBalance(PenaltyConfig):
    """E · Σ f·P over experts (Fedus et al. 2022, equation 4), with f of the step before."""

    inputs: ClassVar[frozenset[PenaltyInput]] = frozenset({"modules"})
