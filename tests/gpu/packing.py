"""Documents side by side in a row give what each gives alone, in values and gradients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from engine_lm import attention
from rows import Rows, at_most
from steps import narrowed

from engine import Batch
from engine.modeling import (
    cross_entropy,
    head,
    hidden_states,
    place,
)

_TYPES = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""And how far from a document by itself, as a share: sums are in another order."""


def rows(device: str) -> Rows:
    """By architecture and type: the largest difference of hidden states and gradients, as a share."""
    lengths = [90, 700, 1, 33, 1200] if device == "cuda" else [9, 70, 1, 33, 60]
    documents = [torch.randint(1, 256, (n,)) for n in lengths]
    for name, fields in {"llama": {}, "mistral": {"sliding_window": 32}}.items():
        wide = None
        for dtype, tolerance in _TYPES.items():
            model = narrowed(_model(name, fields), device, dtype)
            packed = _run(model, [documents], device)
            alone = _run(model, [[one] for one in documents], device)
            word = f"{name} {str(dtype).removeprefix('torch.')}"
            for what, a, b in zip(("states", "gradient"), packed, alone, strict=True):
                apart = float((a - b).norm() / b.norm())
                yield at_most(f"{word}: {what}", apart, tolerance)
            if wide is None:
                wide = packed[0]
            apart = float((packed[0] - wide).norm() / wide.norm())
            yield at_most(f"{word}: states beside float32", apart, tolerance)


def _model(architecture: str, fields: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.1,
        **fields,
    )
    model = AutoModelForCausalLM.from_config(config)
    attention.use_in_training(model)
    return model.train()


def _run(
    model: Any, rows: list[list[torch.Tensor]], device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of all documents, and the gradient of their loss."""
    model.zero_grad()
    states, setup = (
        [],
        SimpleNamespace(objective=SimpleNamespace(annotate=lambda b, _: b), frozen={}),
    )
    for documents in rows:
        ids = torch.cat(documents)[None]
        places = torch.cat([torch.arange(len(one)) for one in documents])[None]
        batch: Any = Batch({"input_ids": ids, "position_ids": places}, {"labels": ids}, {}, 0)
        placed = place(batch, torch.device(device), setup)
        hidden = hidden_states(model, **placed.inputs)
        cross_entropy(hidden, head(model).weight, placed.targets["labels"]).backward()
        states.append(hidden[0].detach().double().cpu())
    gradient = torch.cat([p.grad.double().flatten().cpu() for p in model.parameters()])
    return torch.cat(states), gradient
