"""Texts for tests of language models, and the slow, plain way to score and to continue them."""

from __future__ import annotations

import torch
from support.models import tiny

PAIRS = [
    ("the cat sat on", " a mat"),
    ("the cat sat on ", "a mat"),  # lm-eval moves the space
    ("", "the cat"),
    ("the cat and the", " mouse that ran under two old chairs"),
    ("one small grey mouse", " 7"),
    ("the", " cat sat on a mat and saw one small grey mouse that ran" * 3),
    ("the cat", ""),
]
TEXTS = [
    "the cat sat on a mat",
    "",
    "a",
    "one small grey mouse that ran under two old chairs. " * 4,
]
SHOTS = "the cat sat on a mat and saw one small grey mouse that ran under two old chairs. " * 40
CONTEXT = 32


def token_ids(tokenizer, text: str) -> list[int]:
    """Of the text alone."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def plain_score(model, tokens: list[int], scored: int) -> tuple[float, bool]:
    """log P of the last ``scored`` tokens after all before them, one forward pass, float64."""
    logits = model(torch.tensor([tokens[:-1]])).logits[0].double().log_softmax(-1)
    places = range(len(tokens) - 1 - scored, len(tokens) - 1)
    total = sum(float(logits[p, tokens[p + 1]]) for p in places)
    return total, all(int(logits[p].argmax()) == tokens[p + 1] for p in places)


@torch.no_grad()
def continued(model, tokenizer, prompt, most):
    """What transformers writes after a prompt, greedily."""
    ids = torch.tensor([token_ids(tokenizer, prompt)])
    tokens = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False,
        pad_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )[0, ids.shape[1] :]  # fmt: skip
    return tokenizer.decode(tokens, skip_special_tokens=True)


def foreign(tokenizer, **fields):
    """A tiny model with a generation config of its own."""
    from transformers import GenerationConfig

    model = tiny(vocab_size=len(tokenizer), initializer_range=0.3).eval()
    model.generation_config = GenerationConfig(**fields)
    return model
