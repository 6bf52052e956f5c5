"""Tensor parallelism with sequence parallelism (Korthikanti et al. 2022) for a run of layers.

Between blocks each rank has a part of every row, inside them a part of every matrix. For each
architecture, transformers' plan says which matrices are split by columns and which by rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from engine import SpecError
from engine.modeling import backbone
from engine_parallel.mesh.decoder import Decoder, reseed


def share_matrices(decoder: Decoder, model: Any, mesh: DeviceMesh) -> None:
    """Splits the weights in place. Raises SpecError for an architecture without a usable plan."""
    body = decoder.body
    plan = _layer_plan(model)
    if decoder.is_last and getattr(decoder, decoder.head_name).weight.shape[0] == 1:
        raise SpecError(
            "tensor: the scalar head of a reward or value model cannot be split",
            hint="use data, shard, pipeline or context",
        )
    for layer in decoder.layers:
        parallelize_module(layer, mesh, plan)
    if decoder.is_first:
        # Rows are whole up to the first layer, as the model makes masks and scalings from them.
        style = RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())
        parallelize_module(body, mesh, {"embed_tokens": style})
        parts = PrepareModuleInput(
            input_layouts=Replicate(), desired_input_layouts=Shard(1), use_local_output=True
        )
        parallelize_module(decoder.layers[0], mesh, parts)
    if _draws(model):
        decoder.layers[0].register_forward_pre_hook(_own_draws(mesh.get_local_rank()))
    if decoder.is_last:
        parallelize_module(body, mesh, {"norm": SequenceParallel(use_local_output=True)})
        head = getattr(decoder, decoder.head_name)
        if decoder.is_first and model.config.tie_word_embeddings:
            head.weight = body.embed_tokens.weight
        else:  # split by rows of the vocabulary; the loss is computed from the parts
            parallelize_module(decoder, mesh, {decoder.head_name: ColwiseParallel()})


def _layer_plan(model: Any) -> dict[str, ParallelStyle]:
    kind = model.config.model_type
    given = getattr(model.config, "base_model_tp_plan", None) or {}
    plan: dict[str, ParallelStyle] = {}
    for name, style in given.items():
        inside = re.fullmatch(r"layers\.\*\.(.+)", name)
        if inside is None or style not in ("colwise", "rowwise"):
            raise SpecError(
                f"tensor: '{name}' of a {kind} cannot be split: its plan '{style}' is not supported"
            )
        row = RowwiseParallel(output_layouts=Shard(1))
        plan[inside[1]] = ColwiseParallel() if style == "colwise" else row
    base: Any = backbone(model)
    layer: Any = next(iter(getattr(base, "layers", ())), None)
    missing = [name for name in ("self_attn", "mlp") if not hasattr(layer, name)]
    if not plan or missing or not hasattr(base, "norm"):
        raise SpecError(
            f"tensor: transformers has no tensor-parallel plan for a {kind}",
            hint="use shard, pipeline or context, or a model built like llama",
        )
    norms = [name for name, child in layer.named_children() if _is_norm(child)]
    return plan | {
        **{name: SequenceParallel(use_local_output=True) for name in norms},
        "self_attn": PrepareModuleInput(
            input_kwarg_layouts={"hidden_states": Shard(1)},
            desired_input_kwarg_layouts={"hidden_states": Replicate()},
        ),
        "mlp": PrepareModuleInput(input_layouts=Shard(1), desired_input_layouts=Replicate()),
    }


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


def _is_norm(module: nn.Module) -> bool:
    """Whether a module has only vectors, which every rank holds, and treats each position by itself."""
    sizes = [parameter.dim() for parameter in module.parameters()]
    return bool(sizes) and set(sizes) == {1}
