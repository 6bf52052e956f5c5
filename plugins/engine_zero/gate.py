"""The decision to skip a step, taken inside DeepSpeed's: only there is the gradient norm known.

DeepSpeed (0.19.8) skips a step whose norm is not finite. Each of its three optimizers asks one
method of its own for the norm; that method is wrapped, and says "not finite" of a norm above the
limit as well. So a spike goes the way of an overflow, on all ranks alike, as they share the norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_INVALID = -1.0
"""What DeepSpeed's norms are where a gradient is not finite."""


class Gate:
    """Lets an optimizer's steps pass up to ``limit``; ``norm`` is that of the last one."""

    def __init__(self, optimizer: Any) -> None:
        self.limit = math.inf
        self.norm = torch.tensor(math.inf)
        self._optimizer = optimizer
        if hasattr(optimizer, "scaled_global_norm"):  # stages 1 and 2
            norm_of = optimizer.scaled_global_norm
            self._ask = self._of_offloaded(norm_of)
            optimizer.scaled_global_norm = lambda *a, **k: self._passed(norm_of(*a, **k))
        elif hasattr(optimizer, "_get_norm_groups"):  # stage 3
            groups_of = optimizer._get_norm_groups
            self._ask = lambda: _combined(groups_of())
            optimizer._get_norm_groups = lambda: [self._passed(_combined(groups_of()))]
        else:  # stage 1 in bf16
            gradients_of = optimizer.get_grads_for_norm
            self._ask = lambda: torch.nn.utils.get_total_norm(gradients_of()[0])
            optimizer.get_grads_for_norm = lambda for_clipping=False: (
                gradients_of(for_clipping=True) if for_clipping else self._seen(gradients_of())
            )

    def ask(self) -> Tensor:
        """The norm that the next step will have; infinite where it is not finite."""
        return _finite_or_infinite(self._ask())

    def set(self, limit: float, max_norm: float | None) -> None:
        """What the next step may not exceed, and to what norm its gradient is clipped."""
        self.limit = limit
        self.norm = torch.tensor(math.inf)  # where DeepSpeed sees an overflow, it asks no norm
        self._optimizer.clip_grad = max_norm or 0.0

    def forget(self) -> None:
        """After a skipped step. DeepSpeed drops its gradients, but not those that it adds up in float32
        on the way to the CPU: the next step would have them in it, NaN for ever after a NaN."""
        kept = getattr(self._optimizer, "averaged_gradients", {})
        kept.update(dict.fromkeys(kept))

    def _of_offloaded(self, norm_of: Callable[[], Any]) -> Callable[[], Any]:
        """As DeepSpeed's step does, waits for gradients on their way to the CPU."""

        def ask() -> Any:
            self._optimizer._wait_for_offload_copies()
            return norm_of()

        return ask

    def _passed(self, norm: Any) -> Tensor:
        self.norm = _finite_or_infinite(norm)
        passed = self.norm.isfinite() & (self.norm <= self.limit)
        return self.norm.clone() if passed else torch.full_like(self.norm, _INVALID)

    def _seen(self, found: tuple[list[Tensor], Any]) -> tuple[list[Tensor], Any]:
        gradients, of_experts = found
        norm = self._passed(torch.nn.utils.get_total_norm(gradients))
        # The norm that DeepSpeed takes of these is the same, or infinite.
        return (gradients if norm >= 0 else [torch.full_like(norm, math.inf)]), of_experts


def _finite_or_infinite(norm: Any) -> Tensor:
    norm = torch.as_tensor(norm, dtype=torch.float32)
    valid = bool(norm >= 0) and bool(norm.isfinite())
    return norm.clone() if valid else torch.full_like(norm, math.inf)


def _combined(norms: list[Any]) -> Tensor:
    found = torch.stack([torch.as_tensor(n, dtype=torch.float32) for n in norms])
    return torch.where((found >= 0).all(), found.norm(), _INVALID)
