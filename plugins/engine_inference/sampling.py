"""Draws the next token of many texts at once.

Shapes: S texts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw(
    logits_SV: Tensor,
    temperatures: Sequence[float],
    top_p: Sequence[float],
    uniform: Sequence[float],
) -> Tensor:
    """Draws a token ``_S`` for each text from its nucleus (Holtzman et al. 2020), or takes the most
    probable one if its temperature is 0.

    ``uniform`` has a number from [0, 1) for each text: the first token whose cumulative probability
    exceeds it is drawn. So texts do not depend on one another, and tokens of probability 0 are never
    drawn. Sums are in float64, as float32 loses rare tokens of a large vocabulary.
    """
    device = logits_SV.device
    temperature_S1 = torch.tensor(temperatures, device=device)[:, None]
    greedy_S1 = temperature_S1 == 0
    if greedy_S1.all():
        return logits_SV.argmax(-1)
    probability_SV = (logits_SV / temperature_S1.masked_fill(greedy_S1, 1)).softmax(-1)
    cut = [i for i, share in enumerate(top_p) if share < 1]
    if cut:
        share_C1 = torch.tensor([top_p[i] for i in cut], device=device)[:, None]
        probability_SV[cut] = _nucleus(probability_SV[cut], share_C1)
    so_far_SV = probability_SV.cumsum(-1, dtype=torch.float64)
    uniform_S1 = torch.tensor(uniform, dtype=torch.float64, device=device)[:, None]
    drawn_S1 = torch.searchsorted(so_far_SV, uniform_S1 * so_far_SV[:, -1:], right=True)
    if greedy_S1.any():
        drawn_S1 = torch.where(greedy_S1, logits_SV.argmax(-1, keepdim=True), drawn_S1)
    return drawn_S1[:, 0]


def _nucleus(probability_CV: Tensor, share_C1: Tensor) -> Tensor:
    """Sets probabilities to 0 outside the nucleus: the fewest tokens that reach ``share`` together."""
    sorted_CV, order_CV = probability_CV.sort(descending=True)
    outside_CV = sorted_CV.cumsum(-1) - sorted_CV >= share_C1
    return probability_CV.scatter(-1, order_CV, sorted_CV.masked_fill(outside_CV, 0))
