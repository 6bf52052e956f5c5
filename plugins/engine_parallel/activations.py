"""Less memory for activations: computed again in the backward pass, or kept outside the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.attention.varlen  # defines an operation below
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from engine import Setup, recompute_layers

_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.torch_attn._varlen_attn.default,
}
"""What is dear to compute and small to keep: products with weights, and fused attention. Batched
products are plain attention's, whose scores are what grows with the square of the length."""


def recompute(model: Any, setup: Setup) -> None:
    """Makes each layer of a transformers model keep what ``activation_checkpointing`` says.

    ``full`` keeps its input (Chen et al. 2016), ``selective`` the results of its products as well,
    so that attention and everything elementwise is computed again (Korthikanti et al. 2022).
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
    """Where ``offload_activations`` says so, a forward pass keeps its activations in main memory.

    As torch's save_on_cpu does, but weights, which stay where they are, are not copied.
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
