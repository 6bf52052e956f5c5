"""Faulty models."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from engine_lm.next_token import NextTokenObjective
from support.faults.fault import Planted, alike, kit
from support.models import examples, saved
from transformers import GPT2Config, GPT2LMHeadModel

from engine import Generation, LogLikelihood, ModelConfig, ModelShape
from engine.modeling import head, hidden_states

_CONTEXT = 48


class Small(ModelConfig):
    """A GPT-2 of two layers."""

    def context_length(self):
        return _CONTEXT

    def shape(self, vocabulary):
        return vocabulary and ModelShape(
            layers=2, hidden_size=16, heads=2, kv_heads=2, intermediate_size=64,
            vocabulary=vocabulary, context=_CONTEXT, gated=False, biased=True,
        )  # fmt: skip


planted = Planted("model", Small)


@planted.right
def small_gpt2(config, context, **fields):
    """Right."""
    tokenizer = context.tokenizer()
    end = tokenizer.eos_token_id
    sizes = {"vocab_size": len(tokenizer), "n_positions": _CONTEXT, "n_embd": 16, "n_layer": 2}
    sizes |= {"n_head": 2, "bos_token_id": end, "eos_token_id": end, "initializer_range": 0.2}
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **fields}))


IDS = torch.arange(60, 84)[None]
PLACES = torch.arange(12).repeat(2)[None]
BATCH = NextTokenObjective().collate(examples((9, 14, 20)))


def _built(make, seed=0):
    torch.manual_seed(seed)
    return make()


def _saved(model, folder):
    return saved(Path(folder, "final"), model, kit().tokenizer())


def trained(make):
    """Losses of a few steps, on rows of one document each."""
    model, losses = _built(make), []
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(own, lr=0.3)
    for number in range(3):
        torch.manual_seed(number)
        hidden_BTD = hidden_states(model, **BATCH.inputs)
        loss = NextTokenObjective().loss(hidden_BTD, head(model), BATCH)["loss"] / 43
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def packed(make):
    """Hidden states of two documents in a row."""
    return hidden_states(_built(make).eval(), input_ids=IDS, position_ids=PLACES)


@torch.no_grad()
def logits(make):
    """Logits of a text, as users of transformers compute them."""
    return _built(make).eval()(input_ids=IDS).logits


@torch.no_grad()
def opened(make):
    """Whether the stage's folder gives what was trained."""
    model = _built(make).eval()
    with tempfile.TemporaryDirectory() as folder:
        again = _saved(model, folder).model()
        return alike(model(input_ids=IDS).logits, again(input_ids=IDS).logits)


@torch.no_grad()
def scored(make):
    """The likelihood of a text, twice."""
    lm = kit().language_model(_built(make).eval(), kit().tokenizer())
    asked = [LogLikelihood("the cat", " sat on a mat")]
    return [round(lm.loglikelihoods(asked)[0].logprob, 3) for _ in range(2)]


def written(make):
    """The ids of a text that the model writes."""
    lm = kit().language_model(_built(make).eval(), kit().tokenizer())
    return lm.generate(Generation("the cat", max_tokens=16)).ids


def full_row(make):
    """Whether a row of the declared context can be read."""
    ids = torch.arange(make.config().context_length())[None]
    return hidden_states(_built(make), input_ids=ids).shape[1]


@torch.no_grad()
def row_of_a_batch(make):
    """Hidden states of a row beside others."""
    ids = torch.arange(24).view(3, 8)
    return hidden_states(_built(make).eval(), input_ids=ids)[0]


def rows_of_the_head(make):
    """Tokens that the model can read and write."""
    return head(_built(make)).weight.shape[0]


def planned(make):
    """Whether a plan knows the model's size."""
    shape = make.config().shape(258)
    return shape.intermediate_size


def in_training(make):
    """Hidden states with dropout."""
    model = _built(make)
    torch.manual_seed(0)
    return hidden_states(model, input_ids=IDS)


def _hooked(config, context, name, hook, before=False, **fields):
    model = small_gpt2(config, context, **fields)
    part = model.get_submodule(name)
    if before:
        part.register_forward_pre_hook(hook, with_kwargs=True)
    else:
        part.register_forward_hook(hook)
    return model


@planted.fault(logits, "no position sees what comes after it")
def sees_the_next(config, context):
    """Each position has some of the next token's embedding."""
    return _hooked(config, context, "transformer.wte", lambda m, a, out: out + out.roll(-1, 1))


@planted.fault(packed, "packed documents do not see each other")
def ignores_positions(config, context):
    """It does not use position ids."""
    return _hooked(
        config, context, "transformer",
        lambda m, a, named: (a, {**named, "position_ids": None}), before=True,
    )  # fmt: skip


@planted.fault(logits, "logits are head(hidden states)")
def caps_logits(config, context):
    """It caps logits behind the head, which training does not see."""

    def capped(module, given, out):
        out.logits = torch.tanh(out.logits)
        return out

    return _hooked(config, context, "", capped)


@planted.fault(opened, "saved and opened by its Auto class")
def scales_embeddings(config, context):
    """A hook does what the saved folder does not say."""
    return _hooked(config, context, "transformer.wte", lambda m, a, out: 2 * out)


@planted.fault(rows_of_the_head, "for every token")
def a_token_too_few(config, context):
    """The last token has no row."""
    return small_gpt2(config, context, vocab_size=len(context.tokenizer()) - 1)


@planted.fault(in_training, "it comes in training mode")
def in_evaluation_mode(config, context):
    """Dropout is off in training."""
    return small_gpt2(config, context).eval()


@planted.fault(logits, "the same seed gives the same weights")
def seed_of_its_own(config, context):
    """Its weights are drawn without the run's seed."""
    torch.seed()
    return small_gpt2(config, context)


@planted.fault(planned, "shape() declares")
class SaysWider(Small):
    """It declares a wider feed-forward part."""

    def shape(self, vocabulary):
        return vocabulary and ModelShape(
            layers=2, hidden_size=16, heads=2, kv_heads=2, intermediate_size=640,
            vocabulary=vocabulary, context=_CONTEXT, gated=False, biased=True,
        )  # fmt: skip


@planted.fault(scored, "no dropout, no counter")
def dropout_at_evaluation(config, context):
    """Its dropout stays on."""
    drop = torch.nn.functional.dropout
    return _hooked(config, context, "transformer.wte", lambda m, a, out: drop(out, 0.2, True))


@planted.fault(scored, "no dropout, no counter")
def counts_its_calls(config, context):
    """Each call makes its embeddings a little larger."""
    calls = []

    def grown(module, given, out):
        calls.append(1)
        return out * (1 + 0.02 * len(calls))

    return _hooked(config, context, "transformer.wte", grown)


@planted.fault(full_row, "it reads a row of context_length()")
def half_the_context(config, context):
    """It has positions for half of the declared context."""
    return small_gpt2(config, context, n_positions=_CONTEXT // 2)


def _begins_anew(module, given, named):
    ids, past = named.get("input_ids"), named.get("past_key_values")
    if ids is not None and past is not None and past.get_seq_length():
        named = {**named, "position_ids": torch.arange(ids.shape[1])[None].expand(ids.shape)}
    return given, named


@planted.fault(written, "read in two parts with a cache")
def positions_begin_anew(config, context):
    """With a cache, positions begin at 0 again."""
    return _hooked(config, context, "transformer", _begins_anew, before=True)


@planted.fault(row_of_a_batch, "do not depend on the rows beside it")
def mixes_rows(config, context):
    """A row's embeddings depend on the other rows."""
    return _hooked(config, context, "transformer.wte", lambda m, a, out: (out + out.mean(0)) / 2)


@planted.fault(trained, "all weights learn")
def frozen_embeddings(config, context):
    """Its embeddings do not learn."""
    model = small_gpt2(config, context)
    model.transformer.wte.requires_grad_(False)
    return model


@planted.fault(trained, "layer 0 gets a gradient")
def cuts_the_gradient(config, context):
    """The first layer gets no gradient."""
    return _hooked(
        config, context, "transformer.h.1",
        lambda m, a, named: ((a[0].detach(), *a[1:]), named), before=True,
    )  # fmt: skip


@planted.fault(trained, "is float32, not torch.bfloat16")
def half_precision(config, context):
    """Its weights have 16 bits."""
    return small_gpt2(config, context).bfloat16()


def _from_one(module, given, named):
    if named.get("position_ids") is None and named.get("past_key_values") is None:
        ids = named["input_ids"]
        named = {**named, "position_ids": torch.arange(1, 1 + ids.shape[1])[None]}
    return given, named


@planted.fault(logits, "without position ids, positions are 0")
def positions_from_one(config, context):
    """Where no positions are given, they begin at 1."""
    return _hooked(config, context, "transformer", _from_one, before=True)


@planted.fault(opened, "saved and opened by its Auto class")
def matrix_outside_the_state(config, context):
    """A fixed random matrix is not among what is saved."""
    turn = torch.eye(16) + 0.3 * torch.randn(16, 16)
    return _hooked(config, context, "transformer.wte", lambda m, a, out: out @ turn)
