"""Builds a new hybrid."""

from __future__ import annotations

from engine import Context

from engine_hybrid.architecture import HybridConfig, HybridForCausalLM
from engine_hybrid.config import Hybrid


def build(config: Hybrid, context: Context) -> HybridForCausalLM:
    """A model with the vocabulary of the stage's tokenizer, in training mode."""
    tokenizer = context.tokenizer()
    built = HybridForCausalLM(
        HybridConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.inside,
            num_hidden_layers=config.layers,
            full_every=config.full_every,
            num_attention_heads=config.heads,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return built.train()
