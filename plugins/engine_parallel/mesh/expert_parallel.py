"""Expert parallelism: each rank holds some experts; tokens are sent to their experts and back.

As in GShard (Lepikhin et al. 2021), but without a capacity limit: no token is dropped. Shapes: N
tokens, K experts per token, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from engine import SpecError, holds_experts


def share_experts(layers: Sequence[nn.Module], kind: str, mesh: DeviceMesh) -> list[nn.Module]:
    """Divides the experts of all layers in place, and returns their modules. Raises SpecError where
    there are none."""
    found = experts_in(layers, kind)
    for experts in found:
        if not _are_chosen(experts):
            raise SpecError(
                f"expert: the experts of a {kind} are not called with those that each token chooses",
                hint="leave `expert` out",
            )
        _share(experts, mesh)
    return found


def experts_in(modules: Iterable[nn.Module], kind: str) -> list[nn.Module]:
    """The modules that hold experts. Raises SpecError where there are none."""
    found = [part for module in modules for part in module.modules() if holds_experts(part)]
    if not found:
        raise SpecError(
            f"expert: a {kind} has no experts that are stacked in one weight",
            hint="leave `expert` out",
        )
    return found


def _are_chosen(experts: nn.Module) -> bool:
    """Whether the experts take hidden states, and the experts of each token with their weights."""
    try:
        signature(experts.forward).bind(None, None, None)
    except TypeError:
        return False
    return True


def _share(experts: Any, mesh: DeviceMesh) -> None:
    group = mesh.get_group()
    here = experts.num_experts // mesh.size()
    for name, parameter in list(experts.named_parameters(recurse=False)):
        own = parameter.detach().chunk(mesh.size())[mesh.get_local_rank()].clone()
        setattr(experts, name, nn.Parameter(own, requires_grad=parameter.requires_grad))
    experts.num_experts = here
    compute, exchange = experts.forward, cast("Any", _Exchange).apply

    def forward(hidden_ND: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        chosen = top_k_index.flatten()
        order = chosen.argsort(stable=True)
        sent = torch.bincount(chosen // here, minlength=mesh.size())
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=group)
        out, back = sent.tolist(), received.tolist()
        token = order // top_k_index.shape[1]
        arrived_MD = exchange(hidden_ND[token], back, out, group)
        expert_M = _exchanged(chosen[order] % here, back, out, group)
        one = torch.ones(len(expert_M), 1, dtype=hidden_ND.dtype, device=hidden_ND.device)
        made_MD = compute(arrived_MD, expert_M[:, None], one)
        returned = exchange(made_MD, out, back, group)
        weighted = returned * top_k_weights.flatten()[order, None].to(returned.dtype)
        return torch.zeros_like(hidden_ND).index_add(0, token, weighted)

    experts.forward = forward


class _Exchange(torch.autograd.Function):
    """Sends rows to other ranks; the backward pass returns their gradients."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, arriving: list[int], leaving: list[int], group: Any
    ) -> Tensor:
        ctx.way = (leaving, arriving, group)
        return _exchanged(rows, arriving, leaving, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _exchanged(grad, *ctx.way), None, None, None


def _exchanged(rows: Tensor, arriving: list[int], leaving: list[int], group: Any) -> Tensor:
    out = rows.new_empty((sum(arriving), *rows.shape[1:]))
    dist.all_to_all_single(out, rows.contiguous(), arriving, leaving, group=group)
    return out
