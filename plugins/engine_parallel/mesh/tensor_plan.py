"""How the layers of an architecture are split between tensor-parallel ranks.

transformers' plan says which matrices are split by columns and which by rows. A layer consists of norms
and of blocks, such as attention and feed-forward. A block whose matrices are split gets whole rows. One
with experts works on the rank's own positions, with all experts, which the degree ``expert`` divides.
Every rank computes any other block for whole rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
)

from engine import SpecError, holds_experts, tensor_styles
from engine_parallel.mesh.body import is_norm
from engine_parallel.mesh.grid import gathered

_STYLES: Mapping[str, ParallelStyle] = {
    "colwise": ColwiseParallel(),
    "rowwise": RowwiseParallel(output_layouts=Shard(1)),
    # Matrices whose output has to be whole, for a norm over it, say.
    "colwise_gather_output": ColwiseParallel(output_layouts=Replicate()),
    "rowwise_split_input": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
    # Norms of single heads: each rank has some, and the gradients of all are summed.
    "replicated_with_grad_allreduce": SequenceParallel(use_local_output=True),
}
_ROWWISE = {"rowwise", "rowwise_split_input"}
"""Of a block's last matrix, after which each rank has its own positions."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Styles by the names of a layer's modules; ``whole`` names the blocks that every rank holds."""

    styles: Mapping[str, ParallelStyle]
    whole: Sequence[str]


def layer_plan(layer: nn.Module, config: Any) -> LayerPlan:
    """Raises SpecError for an architecture without a plan."""
    if not getattr(config, "base_model_tp_plan", None):
        raise SpecError(
            f"tensor: transformers has no tensor-parallel plan for a {config.model_type}",
            hint="use another degree, or a model built like llama",
        )
    styles: dict[str, ParallelStyle] = {}
    whole: list[str] = []
    for block, module in layer.named_children():
        if next(module.parameters(), None) is None:
            continue
        if is_norm(module):
            own_vectors = (
                n
                for n, m in module.named_modules(prefix=block)
                if next(m.parameters(recurse=False), None) is not None
            )
            styles |= dict.fromkeys(own_vectors, SequenceParallel(use_local_output=True))
            continue
        planned = tensor_styles(block, module, config)
        if any(holds_experts(part) for part in module.modules()):
            whole.append(block)
        elif planned:
            styles |= {name: _STYLES[style] for name, style in planned.items()}
            styles[block] = _WholeRows(returned=not _ROWWISE & set(planned.values()))
        else:
            whole.append(block)
            styles[block] = _EveryRow()
    return LayerPlan(styles, whole)


class _WholeRows(ParallelStyle):
    """Gives a block whole rows, of which each rank has a part; ``returned``: it also returns them."""

    def __init__(self, *, returned: bool) -> None:
        super().__init__()
        self._returned = returned

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def whole(part: Tensor) -> Tensor:
            rows = DTensor.from_local(part, device_mesh, [Shard(1)], run_check=False)
            return rows.redistribute(placements=[Replicate()])

        change_input(module, whole)
        if self._returned:
            _change_output(module, own_part(device_mesh))
        return module


class _EveryRow(ParallelStyle):
    """Computes a block for whole rows on every rank, of which each keeps its part."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def whole(part: Tensor) -> Tensor:
            return gathered(part, device_mesh, 1)

        def own(rows: Tensor) -> Tensor:
            return rows.chunk(device_mesh.size(), 1)[device_mesh.get_local_rank()]

        change_input(module, whole)
        _change_output(module, own)
        return module


def own_part(mesh: DeviceMesh) -> Callable[[Tensor], Tensor]:
    """A function that returns this rank's part of rows that all ranks have; gradients are of all."""

    def own(rows: Tensor) -> Tensor:
        whole = DTensor.from_local(rows, mesh, [Replicate()], run_check=False)
        part: Tensor = whole.redistribute(placements=[Shard(1)]).to_local()
        return part

    # Compiled by torch 2.13, it loses the gradient of the embedding.
    eager: Callable[[Tensor], Tensor] = torch.compiler.disable(own)
    return eager


def change_input(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Changes the hidden states that the module gets."""

    def changed(
        _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if given:
            return (change(given[0]), *given[1:]), named
        return given, named | {"hidden_states": change(named["hidden_states"])}

    module.register_forward_pre_hook(changed, with_kwargs=True)


def _change_output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Changes the hidden states that the module returns, alone or first in a tuple."""

    def changed(_: nn.Module, __: Any, made: Any) -> Any:
        return (change(made[0]), *made[1:]) if isinstance(made, tuple) else change(made)

    module.register_forward_hook(changed)
