"""Strategies `single` and `ddp`: what a step does to the weights, in every precision."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from engine_lm.next_token import NextTokenObjective
from engine_parallel.master_weights import MasterWeights
from engine_parallel.replicated import Replicated
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from engine import Example, Setup

_CONTEXT = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"))


def _model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def _adamw(parameters):
    return torch.optim.AdamW([p for _, p in parameters], lr=1e-2, weight_decay=0.1, fused=True)


def _strategy(**settings) -> Replicated:
    strategy = Replicated(_CONTEXT)
    model = settings.pop("build", _model)()
    settings = {"optimizer": _adamw, **settings}
    strategy.prepare(Setup(model=model, objective=NextTokenObjective(), **settings))
    return strategy


def _examples(count: int, seed: int = 1) -> list[Example]:
    """Of unequal lengths, so that micro-batches count differently."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for i in range(count):
        length = 6 + 5 * i % 20
        tokens = torch.randint(0, 64, (length + 1,), generator=generator).numpy()
        places = torch.arange(length).numpy()
        fields = {"input_ids": tokens[:-1], "labels": tokens[1:], "position_ids": places}
        examples.append(Example(length, fields))
    return examples


def _batches(examples: list[Example], size: int):
    objective = NextTokenObjective()
    batches = [objective.collate(examples[i : i + size]) for i in range(0, len(examples), size)]
    return batches, {"loss": float(sum(b.counts["loss"] for b in batches))}


def _gradients(strategy: Replicated, size: int) -> dict[str, torch.Tensor]:
    strategy.forward_backward(*_batches(_examples(8), size))
    return {n: m.grad.clone() for n, m in zip(strategy._names, strategy._masters, strict=True)}


def _weights(strategy: Replicated) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in strategy.export()}


def _train(strategy: Replicated, steps: int, start: int = 0, **step) -> list[float]:
    losses = []
    for number in range(start, start + steps):
        batches, counts = _batches(_examples(4, number % 3), 2)
        sums = strategy.forward_backward(batches, counts)
        strategy.step(**{"lr": 1e-2, "max_norm": 1.0, "spike_limit": float("inf"), **step})
        losses.append(float(sums["loss"]) / counts["loss"])
    return losses


def test_micro_batches_add_up_to_the_large_batch():
    """Rows of unequal length in 1, 2 or 8 pieces give one gradient; float32 sums to 1e-5."""
    whole = _gradients(_strategy(), 8)
    for size in (1, 3):
        pieces = _gradients(_strategy(), size)
        for name, gradient in whole.items():
            torch.testing.assert_close(pieces[name], gradient, rtol=1e-5, atol=1e-7)


def test_a_step_is_torch_s_own():
    """Loss, clipping and update equal transformers' loss, clip_grad_norm_ and AdamW by hand."""
    strategy, model = _strategy(), _model()
    optimizer = _adamw(list(model.named_parameters()))
    batches, counts = _batches(_examples(4), 4)
    labels, ids = batches[0].targets["labels"], batches[0].inputs["input_ids"]
    logits = model(input_ids=ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    sums = strategy.forward_backward(batches, counts)
    step = strategy.step(1e-2, 0.1, float("inf"))
    assert float(sums["loss"]) / counts["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert float(step.grad_norm) == pytest.approx(float(norm), rel=1e-4)
    exported = _weights(strategy)
    # AdamW's first step is lr · sign(gradient): where a gradient is all but zero the sign is noise.
    wrong = [(exported[n] - p).abs().gt(1e-5).float().mean() for n, p in model.named_parameters()]
    assert max(wrong) < 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 100.0])
def test_a_bad_step_changes_nothing(precision, poison):
    """Weights, averages and the optimizer's state stay as they are, bit by bit."""
    strategy = _strategy(precision=precision, ema=0.9)
    _train(strategy, 2)
    before = _flat(strategy.state())
    strategy.forward_backward(*_batches(_examples(2), 2))
    for master in _masters(strategy).values():
        master.grad *= poison
    step = strategy.step(1e-2, 1.0, spike_limit=50.0)
    assert bool(step.skipped)
    after = _flat(strategy.state())
    changed = [k for k in before if not torch.equal(before[k], after[k])]
    # fp16's scale is what an overflow is for.
    assert [k for k in changed if not k.startswith("scale/")] == []


def test_fp16_s_scale_halves_on_overflow_and_training_goes_on():
    """The scale finds its level, and the loss falls."""
    strategy = _strategy(precision="fp16")
    strategy.state()["scale"]["scale"].fill_(2.0**40)
    losses = _train(strategy, 60)
    assert float(strategy.state()["scale"]["scale"]) < 2.0**40
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_precision_keeps_float32_masters(precision):
    """The model computes in the narrow type; masters, state and export are float32."""
    strategy = _strategy(precision=precision)
    _train(strategy, 1)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {p.dtype for p in strategy._model.parameters()} == {dtype}
    assert {t.dtype for t in _weights(strategy).values()} == {torch.float32}
    # An update far below the narrow type's resolution is not lost.
    before = _weights(strategy)
    for _ in range(20):
        _train(strategy, 1, lr=1e-6)
    moved = [(before[n] - w).abs().max() for n, w in _weights(strategy).items()]
    assert min(moved) > 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_precision_trains_as_float32_does(precision):
    """The loss after 40 steps is within 1 % of float32's."""
    wide = _train(_strategy(), 40, lr=1e-3)
    narrow = _train(_strategy(precision=precision), 40, lr=1e-3)
    assert wide[-1] < 0.9 * wide[0]
    assert sum(narrow[-5:]) == pytest.approx(sum(wide[-5:]), rel=0.01)


def test_the_average_follows_its_formula():
    """a ← d·a + (1 − d)·w after each step t, where d is min(0.4, (1 + t)/(10 + t)), in float32 to 1e-6;
    scoring and export use it, but where the weights that learn are asked for."""
    strategy = _strategy(ema=0.4, precision="bf16")
    average = {n: m.detach().clone() for n, m in _masters(strategy).items()}
    for number, decay in enumerate([2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4, 0.4]):
        _train(strategy, 1, number)
        for name, master in _masters(strategy).items():
            average[name] = decay * average[name] + (1 - decay) * master.detach()
    exported = _weights(strategy)
    for name, expected in average.items():
        torch.testing.assert_close(exported[name], expected, rtol=1e-6, atol=1e-7)
    trained = {n: p.detach().clone() for n, p in strategy._model.named_parameters()}
    with strategy.inference() as model:
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, exported[name].bfloat16())
    with strategy.inference(averaged=False) as model:
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, trained[name])
    for name, parameter in strategy._model.named_parameters():
        assert torch.equal(parameter, trained[name])


def test_frozen_parameters_stay_and_are_exported():
    """No gradient, no optimizer state, and in the end not a bit less than they came with."""

    def build():
        model = _model()
        model.model.embed_tokens.weight.requires_grad_(False)
        return model

    strategy = _strategy(build=build, precision="bf16")
    _train(strategy, 3)
    weights = _weights(strategy)
    name = "model.embed_tokens.weight"
    assert name not in strategy.state()["model"]
    assert torch.equal(weights[name], build().model.embed_tokens.weight)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
def test_compiled_layers_compute_the_same():
    """torch.compile of every layer: gradients within float32's rounding."""
    plain, compiled = _strategy(), _strategy(compile=True)
    assert all(layer._compiled_call_impl for layer in compiled._model.model.layers)
    a, b = _gradients(plain, 8), _gradients(compiled, 8)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_loaded_state_goes_on_bit_by_bit(precision):
    """Four steps in one go equal two, a save, another strategy, and two more."""
    whole = _strategy(precision=precision, ema=0.9)
    _train(whole, 4)
    first = _strategy(precision=precision, ema=0.9)
    _train(first, 2)
    second = _strategy(precision=precision, ema=0.9, build=lambda: _model(seed=9))
    state, saved = second.state(), _flat(first.state())
    for name, tensor in _flat(state, copy=False).items():
        tensor.copy_(saved[name])
    second.load(state)
    _train(second, 2, start=2)
    a, b = _flat(whole.state()), _flat(second.state())
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def _masters(strategy: Replicated) -> dict[str, torch.Tensor]:
    return dict(zip(strategy._names, strategy._masters, strict=True))


def _flat(state: dict, at: str = "", *, copy: bool = True) -> dict[str, torch.Tensor]:
    flat = {}
    for key, value in state.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{at}{key}/", copy=copy)
        else:
            flat[f"{at}{key}"] = value.clone() if copy else value
    return flat


def test_frozen_models_are_asked_without_gradient(monkeypatch):
    """Else reference and teacher would keep all their activations."""
    asked = []
    monkeypatch.setattr(
        NextTokenObjective,
        "annotate",
        lambda self, batch, frozen: asked.append(torch.is_grad_enabled()) or batch,
    )
    _gradients(_strategy(), 8)
    assert asked == [False]


def test_narrow_training_ends_at_the_same_held_out_loss(tiny_spec, run_here):
    """Of documents that no training saw, within 0.5 % of float32's, after 40 steps."""
    train = tiny_spec["stages"]["base"]["train"]
    train["budget"] = "40 steps"
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
        train["precision"] = precision
        scores = run_here(tiny_spec, runs=precision).events("score")
        perplexity = next(e["value"] for e in scores if e["metric"] == "perplexity")
        losses[precision] = math.log(perplexity)
    print(losses)
    assert len(set(losses.values())) == 3
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.005)
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.005)


def test_narrow_masters_are_refused():
    """Every strategy's: a model that came to it in bf16 would hardly learn, without a word."""
    weight = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    setup = Setup(model=nn.Identity(), optimizer=None, objective=None)
    with pytest.raises(AssertionError, match="must be float32"):
        MasterWeights(["weight"], [weight], setup, torch.device("cpu"))
