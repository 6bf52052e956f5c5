"""The hybrid computes its formula, writes the same with and without a cache, and opens again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine import open_stage, register_architectures
from engine.testing import (
    StandAloneContext,
    check_component,
    check_plugin,
    check_readme,
    run_spec,
    train_tiny,
)
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine_hybrid.linear_attention import convolution, linear_attention

FOLDER = Path(__file__).parents[1]
SMALL = {"type": "hybrid", "hidden_size": 32, "layers": 4, "heads": 2, "context": 48}


def test_the_plugin_is_declared_as_the_engine_wants_it():
    """Light imports, described fields, and no architecture registered by an import."""
    check_plugin("hybrid")


def test_the_readme_tells_of_every_field():
    """Its reference is what the engine would write."""
    check_readme(FOLDER / "README.md")


def test_the_model_keeps_its_contract():
    """Causal, packed documents apart, saved and opened; `shape` is exact."""
    check_component("model", SMALL)
    context = StandAloneContext()
    built, config = context.build("model", SMALL), context.config("model", SMALL)
    tokens = len(context.tokenizer())
    assert config.shape(tokens).parameters == sum(p.numel() for p in built.parameters())


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_chunks_are_the_recurrence(chunk):
    """In float64 to rounding, with its gradients: two rows of three documents, from a state."""
    inputs, position_BT = _drawn(tokens=23)
    found = linear_attention(*inputs[:4], position_BT, inputs[4], chunk)
    expected = _recurrent(*inputs[:4], position_BT, inputs[4])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    sides = [torch.autograd.grad(o.square().sum() + s.sum(), inputs) for o, s in (found, expected)]
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_convolution_stays_in_its_document():
    """Against a loop over tokens, with two tokens that came before."""
    generator = torch.Generator().manual_seed(1)
    inputs_BDT = torch.randn(1, 3, 9, generator=generator)
    weight_DW = torch.randn(3, 4, generator=generator)
    position_BT = torch.tensor([[2, 3, 4, 0, 1, 2, 3]])
    found = convolution(inputs_BDT, weight_DW, position_BT)
    for token, place in enumerate(position_BT[0].tolist()):
        back = range(min(place, 3) + 1)
        taps = [inputs_BDT[0, :, token + 2 - i] * weight_DW[:, 3 - i] for i in back]
        torch.testing.assert_close(found[0, :, token], sum(taps))


def test_with_a_cache_it_is_the_same_model():
    """Logits of a text read at once, in two parts and token by token; and the state stays small."""
    model = _built().double()
    ids = torch.randint(200, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model(ids).logits
        past, found = None, []
        for part in (ids[:, :17], ids[:, 17:30], *ids[:, 30:].split(1, 1)):
            read = model(part, past_key_values=past, use_cache=True)
            past = read.past_key_values
            found.append(read.logits)
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-9, atol=1e-10)
    assert [tuple(past.get_recurrent_state(n).shape) for n in range(3)] == [(1, 2, 16, 16)] * 3


def test_prompts_of_unequal_length_are_written_as_each_alone():
    """By transformers' `generate`, padded on the left, with a cache and without."""
    model = _built().double()
    prompts = [[5, 9, 40], [7, 3, 100, 60, 23, 8, 11]]
    asked = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    alone = [model.generate(torch.tensor([p]), use_cache=False, **asked)[0] for p in prompts]
    padded = torch.tensor([[0] * (7 - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (7 - len(p)) + [1] * len(p) for p in prompts])
    for cached in (True, False):
        both = model.generate(padded, attention_mask=mask, use_cache=cached, **asked)
        for text, prompt, one in zip(both, prompts, alone, strict=True):
            assert text[7 - len(prompt) :].tolist() == one.tolist()


def test_a_run_opens_in_transformers_and_writes(tmp_path):
    """What a stage leaves, by the engine and by Auto classes alike."""
    run = train_tiny(tmp_path, plugins=["hybrid"], model=SMALL)
    assert run.losses[-1] < run.losses[0]
    register_architectures()
    final = run.folder / "base" / "final"
    model = AutoModelForCausalLM.from_pretrained(final)
    ids = torch.arange(9)[None]
    ours = open_stage(run.folder / "base").artifact().model()
    with torch.no_grad():
        assert torch.equal(model(ids).logits, ours(ids).logits)
    scalar = AutoModelForSequenceClassification.from_pretrained(final, num_labels=1)
    assert torch.equal(scalar.model.embed_tokens.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"full_every": 5}])
def test_sizes_that_do_not_fit_are_told(wrong):
    """Before anything is built."""
    with pytest.raises(ValidationError, match=f"{next(iter(wrong))} "):
        StandAloneContext().config("model", {**SMALL, **wrong})


def test_the_example_runs(tmp_path):
    """It trains, and a later stage opens what it trained."""
    run = run_spec(FOLDER / "example.yaml", tmp_path, "stages.base.train.budget=8 steps")
    assert run.losses[-1] < run.losses[0]
    assert {e["stage"] for e in run.events if e["event"] == "score"} == {"base", "scores"}


def _built():
    torch.manual_seed(0)
    model = StandAloneContext().build("model", SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that every part counts
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def _drawn(tokens):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, tokens, 4)] * 3 + [(2, 3, tokens), (2, 3, 4, 4)]
    drawn = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    drawn[3] = -drawn[3].abs()  # a logarithm of what is kept
    begins = [[6, 15], [9, 11]]
    positions = [[*range(3, 3 + a), *range(b - a), *range(tokens - b)] for a, b in begins]
    return [x.requires_grad_() for x in drawn], torch.tensor(positions)


def _recurrent(query, key, value, log_decay, position_BT, state):
    out = []
    for token in range(position_BT.shape[1]):
        begins = (position_BT[:, token] == 0)[:, None, None, None]
        kept = torch.where(begins, 0.0, state * log_decay[:, :, token, None, None].exp())
        state = kept + key[:, :, token, :, None] * value[:, :, token, None, :]
        out.append((query[:, :, token, None, :] @ state)[:, :, 0])
    return torch.stack(out, 2), state
