"""Requests of any kind are answered in their order; what a model cannot give is refused."""

from __future__ import annotations

import pytest
from engine_inference.language_model import SharedPrefixLM
from support.language_models import TEXTS, token_ids as _ids

from engine import Generation, LogLikelihood, Rolling, RunError, SpecError


def test_answers_come_in_the_order_of_the_requests(lm):
    """Of whatever kinds they are; progress ends with all of them."""
    done: list[int] = []
    requests = [Rolling(TEXTS[0]), Generation("a", max_tokens=2), LogLikelihood("the", " cat")]
    answers = lm.answer(requests, done.append)
    assert answers[0] == lm.loglikelihoods([requests[0]])[0]
    assert answers[1] == lm.generate(requests[1])
    assert answers[2].tokens == len(_ids(lm.tokenizer, "the cat")) - len(_ids(lm.tokenizer, "the"))
    assert done[-1] == 3


def test_a_model_of_tokens_has_no_values(lm):
    """The logit of some token is no reward."""
    with pytest.raises(
        RunError, match="LlamaForCausalLM predicts the next token and has no scalar head"
    ):
        lm.scores([("the cat", " sat")])


def test_logits_that_change_after_the_head_are_refused(tokenizer):
    """They would all be wrong, in training, too."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def positive(module, given, out):
        out.logits = out.logits.relu()

    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2)
    ).eval()
    model.register_forward_hook(positive)
    with pytest.raises(SpecError, match=r"'gpt2' changes its logits after the head"):
        SharedPrefixLM(model, tokenizer, context=64)
