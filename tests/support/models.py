"""Tiny models and what they learn from: one place for sizes, where a test asks for no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from engine_data.config import Bytes
from engine_data.tokenizers import build_bytes
from transformers import AutoConfig, AutoModelForCausalLM

from engine import Example
from engine.storage.model_folder import Artifact

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
}
"""In transformers' names."""
A_MILLION = {"type": "llama", "hidden_size": 128, "layers": 4, "heads": 4, "context": 256}
"""A model of a million parameters, as a spec has it."""


def tiny(architecture: str = "llama", seed: int = 0, **fields: Any) -> Any:
    """A causal language model of :data:`SIZES`, changed by ``fields``, at random weights."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model(architecture, **{**SIZES, **fields})
    )


def byte_tokenizer() -> Any:
    """A token for every byte."""
    return build_bytes(Bytes(), None)([])


def saved(folder: Path, model: Any, tokenizer: Any) -> Artifact:
    """The model in a folder, as a train stage leaves it."""
    return Artifact.save(folder, model, model.state_dict().items(), tokenizer)


def examples(lengths: Iterable[int], seed: int = 0, vocabulary: int = 64) -> list[Example]:
    """Random tokens to predict the next of; unequal lengths let ranks and micro-batches count
    differently."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        tokens = torch.randint(0, vocabulary, (length + 1,), generator=generator).numpy()
        places = torch.arange(length).numpy()
        fields = {"input_ids": tokens[:-1], "labels": tokens[1:], "position_ids": places}
        made.append(Example(length, fields))
    return made
