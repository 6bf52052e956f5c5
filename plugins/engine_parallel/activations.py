"""Saves memory for activations: recomputes them in the backward pass, or offloads them to the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.attention.varlen  # defines varlen_attn, used below
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from engine import Setup
from engine.modeling import recompute_layers

_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.torch_attn._varlen_attn.default,
}
"""Operations whose results are expensive to recompute and small to keep: products with weights, and
fused attention. Not batched products, as unfused attention scores grow with the length squared."""


def recompute(model: Any, setup: Setup) -> None:
    """Turns on activation checkpointing in each layer of a transformers model.

    ``full`` keeps only a layer's input (Chen et al. 2016). ``selective`` also keeps the results of
    matrix products, and recomputes the rest (Korthikanti et al. 2022).
    """
    how = setup.activation_checkpointing
    if not how:
        return
    if how == "selective":
        kept = partial(create_selective_checkpoint_contexts, _policy)
        recompute_layers(model, context_fn=kept)
    else:
        recompute_layers(model)


@contextmanager
def offloaded(setup: Setup) -> Iterator[None]:
    """With ``offload_activations``, keeps the activations of forward passes in main memory.

    Unlike torch's save_on_cpu, it does not copy weights, which stay on the device.
    """
    if not setup.offload_activations:
        yield
        return
    with torch.autograd.graph.saved_tensors_hooks(_away, _back):
        yield


def _policy(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    kept = operation in _KEPT
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def _away(tensor: Tensor) -> tuple[torch.device, Tensor]:
    owner = tensor if tensor._base is None else tensor._base
    if isinstance(owner, nn.Parameter) or tensor.device.type == "cpu":
        return tensor.device, tensor
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return tensor.device, pinned.copy_(tensor, non_blocking=True)


def _back(kept: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = kept
    return tensor.to(device, non_blocking=True)
