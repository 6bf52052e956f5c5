"""Penalties on logits and on weights.

Shapes: N positions, C of them in a chunk, V vocabulary, D hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engine import LOGITS, Context, ForwardPass, Penalty, RunError
from engine.modeling import chunked_loss, head_parts, is_scalar
from engine_lm.training_config import DistanceToStart, ZLoss


class ZLossPenalty(Penalty):
    """Σ log² Z over real tokens, with Z = Σ exp logits."""

    def start(self, model: nn.Module) -> Sequence[str]:
        """See :class:`engine.Penalty`. Raises RunError for a model that gives no logits."""
        if is_scalar(model):
            raise RunError(
                "z-loss: a model with a scalar head has no logits; leave the penalty out"
            )
        return ()

    def output_loss(self, forward: ForwardPass) -> Tensor:
        """See :class:`engine.Penalty`. Chunk by chunk, so that never all logits exist."""
        weight_VD, bias_V, logit_map = head_parts(forward.head)
        hidden_ND = forward.hidden.flatten(0, 1)
        weight_VD = weight_VD.to(hidden_ND.dtype)
        real_N = forward.real.flatten()

        def chunk(part: slice, differentiated: bool) -> tuple[Tensor, Tensor]:
            logits_CV = hidden_ND[part] @ weight_VD.T
            if bias_V is not None:
                logits_CV = logits_CV + bias_V
            logits_CV = logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32))
            mapped_CV = logits_CV if logit_map is None else logit_map(logits_CV)
            log_z_C = mapped_CV.logsumexp(-1) * real_N[part]
            # d log² Z / d logits = 2 log Z · softmax
            grad_CV = 2 * log_z_C[:, None] * mapped_CV.softmax(-1)
            if logit_map is not None:
                grad_CV = grad_CV * logit_map.slope(mapped_CV)
            return log_z_C.square().sum(), grad_CV

        rows = max(1, LOGITS["cpu" if weight_VD.device.type == "cpu" else "cuda"] // len(weight_VD))
        return chunked_loss(hidden_ND, weight_VD, bias_V, rows, chunk)


class DistancePenalty(Penalty):
    """½ Σ (w − w at the start)² over all trained weights."""

    def keep(self, name: str, weight: Tensor) -> Mapping[str, Tensor]:
        """See :class:`engine.Penalty`: the weights at the start."""
        return {"start": weight}

    def parameter_loss(self, name: str, weight: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """See :class:`engine.Penalty`."""
        return (weight - kept["start"]).square().sum() / 2


def build_z_loss(config: ZLoss, context: Context) -> Penalty:
    """Builds the penalty on the normaliser."""
    return ZLossPenalty()


def build_distance(config: DistanceToStart, context: Context) -> Penalty:
    """Builds the penalty on the distance."""
    return DistancePenalty()
