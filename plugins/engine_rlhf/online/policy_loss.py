"""The clipped policy loss that PPO, RLOO and GRPO share, and whitening.

Shapes: B rows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from engine import Batch
from engine.modeling import IGNORE, token_logprobs
from engine_rlhf.online.episode import Floats


def logprobs(hidden_BTD: Tensor, head: nn.Module, batch: Batch, temperature: float) -> Tensor:
    """log π ``_BT`` of the answers' tokens at a sampling temperature, 0 at other positions."""
    return token_logprobs(
        hidden_BTD,
        head,
        batch.targets["labels"],
        places_N=batch.targets.get("label_places"),
        temperature=temperature,
    )


def clipped_loss(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """−min(r·A, clip(r, 1 ± ε)·A), elementwise (Schulman et al. 2017, equation 7)."""
    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def ratio_metrics(log_ratio_BT: Tensor, batch: Batch, clip: float) -> dict[str, Tensor]:
    """Sums over the answers' tokens: ratios outside the clip's range, and ½·(log ratio)²."""
    counts_BT = batch.targets["labels"] != IGNORE
    moved_BT = ((log_ratio_BT.detach().exp() - 1).abs() > clip) & counts_BT
    return {
        "metric/clipped": moved_BT.float().sum(),
        "metric/approx_kl": 0.5 * log_ratio_BT.detach().square().sum(),
    }


def whiten(values: Sequence[Floats], *, shift: bool = True, unbiased: bool = False) -> list[Floats]:
    """Scales the values of all rows together to variance 1 and, with ``shift``, to mean 0.

    The variance divides by n (Huang et al. 2024, detail 13) or, if ``unbiased``, by n − 1.
    """
    flat = np.concatenate(values).astype(np.float64)
    mean = flat.mean()
    variance = flat.var(ddof=1 if unbiased and len(flat) > 1 else 0)
    scale = 1 / np.sqrt(variance + 1e-8)
    keep = 0.0 if shift else mean
    return [((row - mean) * scale + keep).astype(np.float32) for row in values]
