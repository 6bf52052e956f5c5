"""Texts are continued token for token as transformers does, alone or beside others, up to any end."""

from __future__ import annotations

import copy

import pytest
import torch
from engine_inference import generation
from engine_inference.language_model import SharedPrefixLM
from support.language_models import (
    CONTEXT,
    PAIRS,
    SHOTS,
    continued as _generated,
    foreign as _foreign,
    token_ids as _ids,
)
from support.tokenizers import FAMILIES

from engine import Generation


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_ends_where_transformers_does(family):
    """At any of several ends, after the ids that transformers makes of the prompt."""
    words = FAMILIES[family]()
    free = _foreign(words)
    ids = torch.tensor([words.encode("Ada took 4")])
    own = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": words.eos_token_id}
    with torch.no_grad():
        text = free.generate(ids, attention_mask=torch.ones_like(ids), **own)[0, ids.shape[1] :]
        ends = [words.eos_token_id, int(text[5])]
        model = _foreign(words, eos_token_id=ends)
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), **own)
    found = SharedPrefixLM(model, words).generate(Generation("Ada took 4", max_tokens=24))
    assert list(found.ids) == expected[0, ids.shape[1] :].tolist()
    assert found.ended
    assert found.ids[-1] == ends[1]
    whole = words.decode([*ids[0], *found.ids], skip_special_tokens=True)
    assert words.decode(ids[0], skip_special_tokens=True) + found.text == whole


@pytest.mark.parametrize("before", ["", SHOTS])
def test_many_prompts_are_continued_as_each_alone(model, tokenizer, before, monkeypatch):
    """Token for token as transformers does, in fewer slots than prompts, each to its own length."""
    monkeypatch.setattr(generation, "_MOST", 4)
    lm = SharedPrefixLM(model, tokenizer, context=2048)
    ends = ["the cat", "a", "one small grey mouse that", "7: ", "chairs", "two old", "sat on a mat"]
    requests = [
        Generation(before + end, max_tokens=5 + 7 * number) for number, end in enumerate(ends)
    ]
    done = []
    found = lm.generations(requests, done.append)
    assert done == list(range(1, len(ends) + 1))
    for request, response in zip(requests, found, strict=True):
        assert response.text == _generated(model, tokenizer, request.prompt, request.max_tokens)
        assert response.ended == (response.tokens < request.max_tokens)


def test_a_sampled_text_does_not_depend_on_its_neighbours(lm):
    """Nor do stop strings."""
    requests = [
        Generation("the cat", max_tokens=12, temperature=1.0, seed=seed, stop=(". ",))
        for seed in range(6)
    ]
    together = lm.generations(requests)
    assert [r.text for r in together] == [lm.generate(r).text for r in requests]
    assert len({r.text for r in together}) > 1


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_a_text_comes_with_its_ids_and_their_logprob(model, tokenizer, temperature):
    """At temperature 1, EOS included, as one pass over prompt and answer gives it."""
    likely_eos = copy.deepcopy(model)
    weight = likely_eos.get_output_embeddings().weight
    weight.data[tokenizer.eos_token_id] = weight.data[: len(tokenizer)].mean(0) * 3
    lm = SharedPrefixLM(likely_eos, tokenizer, context=64)
    requests = [
        Generation(PAIRS[seed % 2][0], max_tokens=12, temperature=temperature, seed=seed)
        for seed in range(24)
    ]
    responses = lm.generations(requests)
    rows = [
        (_ids(tokenizer, request.prompt), response.ids)
        for request, response in zip(requests, responses, strict=True)
    ]
    for response, (own, _) in zip(responses, lm.logprobs(rows), strict=True):
        assert response.logprob == pytest.approx(float(own.double().sum()), abs=1e-4)
        assert response.ended == (response.ids[-1] == tokenizer.eos_token_id)
        assert response.tokens == len(response.ids) - response.ended
        assert response.text == tokenizer.decode(response.ids, skip_special_tokens=True)
    if temperature:
        assert {r.ended for r in responses} == {True, False}
    rollouts = lm.rollouts([prompt for prompt, _ in rows], requests)
    assert [tuple(r.tokens) for r in rollouts] == [r.ids for r in responses]


def test_no_room_for_a_text(lm):
    """Nothing is written, and nothing breaks."""
    assert lm.generations([]) == []
    assert lm.answer([Generation("a", max_tokens=1)])[0].tokens <= 1


PROMPTS = ["the cat", "one small grey mouse that", "a", "7: "]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_generation_is_transformers(lm, model, tokenizer, prompt):
    """Token for token, with the cache."""
    ids = torch.tensor([_ids(tokenizer, prompt)])
    with torch.no_grad():
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )[0, ids.shape[1] :]  # fmt: skip
    found = lm.generate(Generation(prompt, max_tokens=12))
    assert found.text == tokenizer.decode(expected, skip_special_tokens=True)
    assert not found.truncated


def test_a_stop_string_ends_it_and_is_left_out(lm):
    """Also where it ends inside a token; what was told meanwhile is the same text."""
    whole = lm.generate(Generation("the cat", max_tokens=20)).text
    stop = next(w for n in range(2, 6) if (w := whole[n : n + 2]).isascii())
    pieces: list[str] = []
    found = lm.generate(Generation("the cat", max_tokens=20, stop=(stop,)), pieces.append)
    assert found.text == whole[: whole.index(stop)]
    assert "".join(pieces) == found.text


def test_sampling_repeats_with_its_seed(lm):
    """Another seed gives another text; a nucleus of nothing is the likeliest token."""

    def sample(**fields):
        return lm.generate(Generation("the cat", max_tokens=16, **fields)).text

    assert sample(temperature=1.0, seed=1) == sample(temperature=1.0, seed=1)
    assert sample(temperature=1.0, seed=1) != sample(temperature=1.0, seed=2)
    assert sample(temperature=1.0, top_p=1e-9) == sample()
    assert sample(temperature=1e-4) == sample()


def test_prompts_too_long_keep_their_end(lm):
    """And say so."""
    long = "the cat sat on a mat and saw one small grey mouse " * 10
    found = lm.generate(Generation(long, max_tokens=8))
    assert found.truncated
    assert found.tokens <= 8
    assert lm.generate(Generation("", max_tokens=4)).tokens <= 4


def test_a_prompt_keeps_a_quarter_of_the_context(lm, tokenizer):
    """However long the answer may become, which then has the rest."""
    long = "the cat sat on a mat and saw one small grey mouse " * 10
    text = lm._text(Generation(long, max_tokens=10 * CONTEXT))
    assert list(text.prompt) == _ids(tokenizer, long)[-CONTEXT // 4 :]
    assert text.limit == CONTEXT - CONTEXT // 4
