"""Sizes at which abilities are said to appear, with what their sources say.

They are of other models, data and benchmarks: nothing is predicted from them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prior:
    """An ability, the parameters at which it is commonly ``said`` to appear, and a published
    ``finding`` with its ``source``."""

    ability: str
    said: float
    finding: str
    source: str


PRIORS = (
    Prior(
        "few-shot learning",
        1e9,
        "the gain from examples often grows with size from 0.1B to 175B, and no size is named; listed "
        "are three-digit addition at 13B (2.3e22 FLOPs) and MMLU at 175B (3.1e23 FLOPs).",
        "Brown et al. 2020, arXiv:2005.14165; Wei et al. 2022a, arXiv:2206.07682, table 1",
    ),
    Prior(
        "chain of thought",
        1e10,
        "gains only at about 100B, and losses below; word problems at 68B (1.3e23 FLOPs).",
        "Wei et al. 2022b, arXiv:2201.11903, section 3.2; Wei et al. 2022a, table 1",
    ),
    Prior(
        "code",
        1e11,
        "models tuned on code solve 13 % of HumanEval at 0.3B and 29 % at 12B; no size is named.",
        "Chen et al. 2021, arXiv:2107.03374, table 1",
    ),
    Prior(
        "reasoning",
        1e12,
        "a quarter of 150 BIG-bench tasks are over 10 points better at 540B than a line through 8B "
        "and 62B; no source found measures 1,000B.",
        "Chowdhery et al. 2022, arXiv:2204.02311, on BIG-bench",
    ),
)
