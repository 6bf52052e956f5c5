"""``check_component`` finds inference components that compute something else than the model."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("`context` is what is given, not 48", "context or context_of(model.config)", "48"),
        ("by the model's own forward pass", "self.context):", "8):"),
        ("`greedy` of LogLikelihood", "greedy=all(", "greedy=not all("),
        ("`truncated` of LogLikelihood", "truncated=truncated", "truncated=False"),
        ("log P at temperature 0.5", "logits_TV / temperature", "logits_TV"),
        ("log P of 4 tokens is _T in float32", "logits[0].float()", "logits[0].double()"),
        ("progress ends with all", "progress(len(responses))", "pass"),
        ("Generation(prompt='the cat'", "logits_V.argmax()", "logits_V.argmin()"),
        ("`truncated` says that a prompt was cut", "len(kept) < len(prompt)", "False"),
        ("other seeds give other texts", "manual_seed(request.seed)", "manual_seed(0)"),
        ("depends on its request alone", "torch.Generator().manual_seed(request.seed)", "CHANCE"),
        ("with a top_p near 0", ">= request.top_p", ">= 2"),
        ("the text of", "continuation(self.tokenizer, kept, ids)", '""'),
        ("log P of the text", "logprob += ", "logprob -= "),
        ("ended by a token of generation_config", "ends(model, tokenizer)", "()"),
        ("a text ends before the stop string", "text[:stop], ids", "text, ids"),
        ("values are", "[0, :, 0].float()", "[0, :, 0].float() + 1"),
        ("the normalised value at the end", "float(value[-1]) - mean", "float(value[-1])"),
    ],
)
def test_an_answer_that_is_not_the_model_s(refuses, contract, old, new):
    """Each of these has one mistake."""
    shared = ("def build(config, context):\n    return NaiveLM", SHARED)
    refuses("inference", {"type": "naive"}, contract, (old, new), shared)


SHARED = """CHANCE = torch.Generator()


def build(config, context):
    return NaiveLM"""
