"""Skips a step with a gradient spike inside DeepSpeed's own step, which computes the gradient norm.

DeepSpeed (0.19.8) skips a step whose norm is not finite. The method by which each of its three
optimizers gets the norm is wrapped, to return "not finite" for a norm above the limit as well. A spike
is then skipped like an overflow, on all ranks, as they share the norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_INVALID = -1.0
"""The norm that DeepSpeed returns where a gradient is not finite."""


class Gate:
    """Skips an optimizer's steps with a norm above ``limit``; ``norm`` is that of the last step."""

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
        """The gradient norm of the coming step; infinity where it is not finite."""
        return _finite_or_infinite(self._ask())

    def set(self, limit: float, max_norm: float | None) -> None:
        """Sets the limit for the next step's norm, and the norm to which its gradient is clipped."""
        self.limit = limit
        self.norm = torch.tensor(math.inf)  # DeepSpeed computes no norm after an overflow
        self._optimizer.clip_grad = max_norm or 0.0

    def forget(self) -> None:
        """Clears gradients after a skipped step. DeepSpeed keeps those that it accumulates in float32
        on the CPU, so the next step would include them, and be NaN for ever after a NaN."""
        kept = getattr(self._optimizer, "averaged_gradients", {})
        kept.update(dict.fromkeys(kept))

    def _of_offloaded(self, norm_of: Callable[[], Any]) -> Callable[[], Any]:
        """Waits for gradients on their way to the CPU, as DeepSpeed's step does."""

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
        # DeepSpeed computes the same norm from these, or infinity.
        return (gradients if norm >= 0 else [torch.full_like(norm, math.inf)]), of_experts


def _finite_or_infinite(norm: Any) -> Tensor:
    norm = torch.as_tensor(norm, dtype=torch.float32)
    valid = bool(norm >= 0) and bool(norm.isfinite())
    return norm.clone() if valid else torch.full_like(norm, math.inf)


def _combined(norms: list[Any]) -> Tensor:
    found = torch.stack([torch.as_tensor(n, dtype=torch.float32) for n in norms])
    return torch.where((found >= 0).all(), found.norm(), _INVALID)
