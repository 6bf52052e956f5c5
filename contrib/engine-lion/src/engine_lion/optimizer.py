"""Lion over a model's named parameters (Chen et al. 2023, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from engine import Context, Optimizers
from engine.modeling import parameter_groups
from torch import Tensor

from engine_lion.config import Lion as LionConfig


class Lion(torch.optim.Optimizer):
    """θ ← θ − lr · (sign(β₁ m + (1 − β₁) g) + decay · θ), then m ← β₂ m + (1 − β₂) g.

    As torch's fused optimizers do, ``step`` divides gradients by ``grad_scale`` and changes nothing
    where ``found_inf`` is 1, both tensors on the parameters' device, without a word to the host.
    """

    _step_supports_amp_scaling = True  # torch's own word for it
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 1e-4, "weight_decay": 0.0, "betas": (0.9, 0.99)})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum, gradient = state["momentum"], parameter.grad
        if self.grad_scale is not None:
            gradient = gradient / self.grad_scale
        towards, remembered = group["betas"]
        sign = momentum.lerp(gradient, 1 - towards).sign_()
        moved = parameter * (1 - group["lr"] * group["weight_decay"])
        moved.add_(sign, alpha=-group["lr"])
        kept = momentum.lerp(gradient, 1 - remembered)
        if self.found_inf is not None:  # torch.where, as 0 · NaN would still be NaN
            skipped = self.found_inf.bool()
            moved = torch.where(skipped, parameter, moved)
            kept = torch.where(skipped, momentum, kept)
        parameter.copy_(moved)
        momentum.copy_(kept)


def build(config: LionConfig, context: Context) -> Optimizers:
    """Lion on everything that is trained."""

    def make(parameters: Sequence[tuple[str, Tensor]]) -> torch.optim.Optimizer:
        groups = parameter_groups(config, parameters)
        return Lion([{"lr": config.lr, "betas": config.betas, **group} for group in groups])

    return make
