"""Texts that share a beginning are scored as each alone; what cannot share reads row by row."""

from __future__ import annotations

import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from engine_inference.likelihood import read
from engine_inference.prefix_trees import plan
from support.language_models import SHOTS, continued as _generated

from engine import Generation, LogLikelihood, Rolling
from engine.modeling import scored_rows

SHARING = [
    LogLikelihood(f"{before}{question}", ending)
    for before in (SHOTS, SHOTS[5:], "")
    for question in ("a mouse", "one grey cat saw", "seven chairs")
    for ending in (" and", " cat", " that ran under", " sat on a mat", "")
] + [Rolling("the cat sat on a mat. " * 9)]


def _apart(ours, theirs):
    assert [r.greedy for r in ours] == [r.greedy for r in theirs]
    assert [r.tokens for r in ours] == [r.tokens for r in theirs]
    return max(abs(a.logprob - b.logprob) for a, b in zip(ours, theirs, strict=True))


def test_neither_sharing_nor_batches_nor_order_change_an_answer(model, tokenizer):
    """By more than 1e-4 in float32; prefixes were shared, in several runs."""
    lm = SharedPrefixLM(model, tokenizer, context=2048)
    assert lm._scorer.shares
    alone = SharedPrefixLM(model, tokenizer, context=2048, batch_tokens=1)
    alone._scorer._shares = False
    expected = alone.loglikelihoods(SHARING)
    asked = scored_rows(tokenizer, SHARING[:-1], 10**6)
    rows = [read(row) for its, _ in asked for row in its]
    assert len([run for run in plan(rows) if run.prefix > 100]) == 2
    assert _apart(lm.loglikelihoods(SHARING), expected) < 1e-4
    small = SharedPrefixLM(model, tokenizer, context=2048, batch_tokens=64)
    assert _apart(small.loglikelihoods(SHARING), expected) < 1e-4
    assert _apart(lm.loglikelihoods(SHARING[::-1])[::-1], expected) < 1e-4


@pytest.mark.parametrize("sliding", [None, 16])
def test_attention_of_its_own_is_not_shared(tokenizer, sliding):
    """A window would let a tree's branches see too little: such models read row by row."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=sliding,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    lm = SharedPrefixLM(model, tokenizer, context=2048)
    assert lm._scorer.shares == (sliding is None)
    alone = SharedPrefixLM(model, tokenizer, context=2048, batch_tokens=1)
    alone._scorer._shares = False
    assert _apart(lm.loglikelihoods(SHARING), alone.loglikelihoods(SHARING)) < 1e-4
    text = lm.generate(Generation("the cat", max_tokens=40)).text
    assert text == _generated(model, tokenizer, "the cat", 40)
