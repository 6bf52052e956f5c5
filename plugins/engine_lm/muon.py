"""Muon: orthogonalised momentum for hidden matrices and stacks of them; AdamW for everything else.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/); update scale and decoupled decay by
Liu et al. 2025, "Muon is scalable for LLM training", section 2.2, so that AdamW's rates carry over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steepest at 0, singular values to ~1
_ITERATIONS = 5
_ADAMW_RMS = 0.2  # size of AdamW's updates (Liu et al., equation 4)


class Muon(torch.optim.Optimizer):
    """Groups with ``use_muon`` hold matrices, or stacks ``_ERC`` of E matrices (such as experts'),
    which are treated separately; AdamW updates the other groups.

    As in torch's fused optimizers, ``step`` divides gradients by ``grad_scale`` and changes nothing
    where ``found_inf`` is 1; both are tensors on the parameters' device and are never read on the host.
    ``products`` is the dtype of the orthogonalisation: bfloat16 suffices for its five iterations
    (Jordan et al.), but is a tenth as fast as float32 on some CPUs.
    """

    _step_supports_amp_scaling = True  # torch's GradScaler reads this attribute
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self, groups: Iterable[dict[str, Any]], products: torch.dtype = torch.float32
    ) -> None:
        self._products = products
        defaults = {
            "lr": 1e-3,
            "weight_decay": 0.1,
            "momentum": 0.95,
            "betas": (0.9, 0.95),
            "eps": 1e-8,
            "use_muon": False,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters and group["use_muon"]:
                self._muon(group, parameters)
            elif parameters:
                self._adamw(group, parameters)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            by_shape[parameter.shape].append(parameter)
        keep = self._keep()
        for shape, same in by_shape.items():
            buffers = []
            for parameter in same:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                buffers.append(state["momentum"])
            gradients: list[Tensor] | tuple[Tensor, ...] = _gradients(same)
            if self.grad_scale is not None:
                gradients = torch._foreach_div(gradients, self.grad_scale)
            moved = torch._foreach_lerp(buffers, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, moved, group["momentum"])
            stacked = torch.stack(nesterov)
            update = orthogonalised(stacked.flatten(0, -3), self._products).view_as(stacked)
            scale = group["lr"] * _ADAMW_RMS * max(shape[-2:]) ** 0.5
            for parameter, buffer, new, step in zip(same, buffers, moved, update, strict=True):
                changed = parameter * (1 - group["lr"] * group["weight_decay"])
                changed.add_(step, alpha=-scale)
                if keep is None:
                    parameter.copy_(changed)
                    buffer.copy_(new)
                else:  # torch.where, as 0 · NaN would still be NaN
                    parameter.copy_(torch.where(keep, parameter, changed))
                    buffer.copy_(torch.where(keep, buffer, new))

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        averages, squares, steps = [], [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            averages.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
            steps.append(state["step"])
        adam(
            parameters,
            _gradients(parameters),
            averages,
            squares,
            [],
            steps,
            fused=True,
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
            amsgrad=False,
            decoupled_weight_decay=True,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _keep(self) -> Tensor | None:
        return None if self.found_inf is None else self.found_inf.bool()


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of parameters that all have one."""
    return [p.grad for p in parameters if p.grad is not None]


def orthogonalised(matrices_NRC: Tensor, products: torch.dtype = torch.float32) -> Tensor:
    """Approximately U·Vᵀ of each matrix U·S·Vᵀ: Newton–Schulz in ``products`` brings S to 0.7 … 1.2."""
    norm_N11 = matrices_NRC.norm(dim=(-2, -1), keepdim=True)
    x: Tensor = (matrices_NRC / (norm_N11 + 1e-7)).to(products)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices_NRC.dtype)
