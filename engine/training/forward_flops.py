"""Counts the FLOPs of a model's forward pass, whatever its layers are made of.

The model reads rows of three lengths, with tensors that have sizes and no numbers. What grows with the
square of the length is attention's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from engine.contracts.model_sizes import ForwardFlops
from engine.modeling.heads import layers
from engine.training.tensor_blocks import holds_experts, tensor_styles

_SHORT = (16, 32, 64)
_LONG = (256, 512, 1024)
"""Lengths of the rows. Long ones fill the chunks in which linear attention is computed, up to 256
tokens in Mamba 2; short ones do for layers that go through a row token by token."""
_EXPERTS = "batched_mm"
"""The implementation of experts that needs no numbers; each token meets as many as in the others."""


def forward_flops(model: nn.Module) -> ForwardFlops | None:
    """FLOPs of a causal language model of transformers on the ``meta`` device; None if it cannot run
    there. Puts the model into evaluation mode, with plain attention."""
    known = cast("Any", model.eval())
    try:
        known.set_attn_implementation("eager")
        known.set_experts_implementation(_EXPERTS)
        lengths = _SHORT if _goes_token_by_token(known) else _LONG
        counts = [_by_module(known, length) for length in lengths]
    except Exception:  # a model's own code may raise anything about tensors without numbers
        return None
    return _fitted(known, lengths, counts)


def _goes_token_by_token(model: Any) -> bool:
    """Whether the number of operations grows with the length of a short row."""
    return len({_operations(model, length) for length in _SHORT[:2]}) > 1


def _operations(model: Any, length: int) -> int:
    counter: _Operations = _Operations()  # type: ignore[no-untyped-call]
    with counter:
        _read(model, length)
    return counter.number


class _Operations(TorchDispatchMode):
    """Counts operations."""

    number: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def _by_module(model: Any, length: int) -> Counter[str]:
    """FLOPs of each module for a row, by the module's name; of the model by an empty one."""
    with FlopCounterMode(display=False) as counter:
        _read(model, length)
    root = type(model).__name__
    return Counter(
        {
            name.removeprefix(root).removeprefix("."): sum(counts.values())
            for name, counts in counter.get_flop_counts().items()
            if name != "Global"
        }
    )


@torch.no_grad()
def _read(model: Any, length: int) -> None:
    # Without a cache transformers looks for packed documents in position ids, which have no numbers.
    model(input_ids=torch.zeros(1, length, dtype=torch.long, device="meta"), use_cache=True)


def _fitted(
    model: Any, lengths: tuple[int, int, int], counts: Sequence[Counter[str]]
) -> ForwardFlops:
    """FLOPs per token, and per token and position, from those of rows: a + b·length + c·length². a is
    of the tokens with which convolutions pad a row."""

    def of(name: str) -> tuple[float, float]:
        first, second, third = (count[name] for count in counts)
        before = (second - first) / (lengths[1] - lengths[0])
        after = (third - second) / (lengths[2] - lengths[1])
        square = (after - before) / (lengths[2] - lengths[0])
        return before - square * (lengths[0] + lengths[1]), square

    fixed, growing = of("")
    head = of(_name_of(model, model.get_output_embeddings()))[0]
    weights = fixed - head
    whole = [_name_of(model, block) for block in _whole_blocks(model)]
    parameters = sum(p.numel() for layer in layers(model) for p in layer.parameters())
    unsplit = sum(p.numel() for name in whole for p in model.get_submodule(name).parameters())
    shares = (
        sum(of(name)[0] for name in whole) / (weights or 1),
        sum(of(name)[1] for name in whole) / (growing or 1),
        unsplit / (parameters or 1),
    )
    return ForwardFlops(weights, growing, head, shares)


def _whole_blocks(model: Any) -> list[nn.Module]:
    """The blocks that every tensor-parallel rank computes for whole rows; with experts it computes its
    own positions. None of an architecture without a plan, which cannot be trained so."""
    if not getattr(model.config, "base_model_tp_plan", None):
        return []
    return [
        block
        for layer in layers(model)
        for name, block in layer.named_children()
        if any(p.dim() > 1 for p in block.parameters())
        and not any(holds_experts(part) for part in block.modules())
        and not tensor_styles(name, block, model.config)
    ]


def _name_of(model: nn.Module, module: nn.Module) -> str:
    found: str = next(name for name, part in model.named_modules() if part is module)
    return found
