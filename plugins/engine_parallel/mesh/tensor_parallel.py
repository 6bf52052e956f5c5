"""Tensor parallelism with sequence parallelism (Korthikanti et al. 2022) for a run of layers.

Between blocks each rank has a part of every row, inside them a part of every matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from engine import SpecError
from engine_parallel.mesh.decoder import Decoder, reseed
from engine_parallel.mesh.tensor_plan import change_input, layer_plan, own_part


def share_matrices(decoder: Decoder, model: Any, mesh: DeviceMesh) -> set[str]:
    """Splits the weights in place. Raises SpecError for an architecture without a usable plan.

    Returns the names of parameters that every rank holds whole, with the gradient of its own positions.
    """
    names = decoder.structure
    body = names.runner(decoder.body)
    if decoder.is_last and getattr(decoder, decoder.head_name).weight.shape[0] == 1:
        raise SpecError(
            "tensor: the scalar head of a reward or value model cannot be split",
            hint="use data, shard, pipeline or context",
        )
    if any(True for _ in getattr(body, names.tokens).children()):
        raise SpecError(
            f"tensor: the embedding of a {model.config.model_type} has layers of its own",
            hint="use data, shard, pipeline or context",
        )
    whole: set[int] = set()
    for layer in decoder.layers:
        plan = layer_plan(layer, model.config)
        parallelize_module(layer, mesh, dict(plan.styles))
        whole |= {id(p) for block in plan.whole for p in layer.get_submodule(block).parameters()}
    if decoder.is_first:
        # Rows are whole up to the first layer, as the model makes masks and scalings from them.
        style = RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())
        parallelize_module(body, mesh, {names.tokens: style})
        change_input(decoder.layers[0], own_part(mesh))
    if _draws(model):
        decoder.layers[0].register_forward_pre_hook(_own_draws(mesh.get_local_rank()))
    if decoder.is_last:
        final: dict[str, ParallelStyle] = {
            name: SequenceParallel(use_local_output=True) for name in names.norms[-1:]
        }
        parallelize_module(body, mesh, final)
        head = getattr(decoder, decoder.head_name)
        if decoder.is_first and model.config.tie_word_embeddings:
            head.weight = getattr(body, names.tokens).weight
        else:  # split by rows of the vocabulary; the loss is computed from the parts
            parallelize_module(decoder, mesh, {decoder.head_name: ColwiseParallel()})
    return {name for name, parameter in decoder.named_parameters() if id(parameter) in whole}


def _own_draws(rank: int) -> Callable[..., None]:
    """A hook after which each rank draws random numbers of its own.

    From there on ranks hold different parts of rows and matrices, so their dropout must differ. The
    draws depend only on the generator's state, so that a recomputed layer draws the same again.
    """

    def draw(*_: Any) -> None:
        reseed(int(torch.randint(2**62, ())), rank)

    hook: Callable[..., None] = torch.compiler.disable(draw)
    return hook


def _draws(model: Any) -> bool:
    """Whether the model's configuration has a dropout rate above 0."""
    return any(
        "drop" in name and isinstance(value, float) and value > 0
        for name, value in model.config.to_dict().items()
    )
