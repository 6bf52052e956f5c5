"""Activations that are computed again or kept elsewhere: fewer bytes, the same numbers."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest
import torch
from engine_parallel import activations
from engine_parallel.replicated import Replicated
from engine_plan.activations import Pass, layer_bytes, model_bytes

from engine import Example, Setup
from engine.testing import StandAloneContext

CONTEXT = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"))
MODEL = {"type": "llama", "hidden_size": 64, "layers": 3, "heads": 4, "kv_heads": 2, "context": 256}
HOW = {False: "none", True: "full", "full": "full", "selective": "selective"}
ROWS, LENGTH = 2, 256


def _strategy(attention: str = "engine_blocks", **settings) -> Replicated:
    context = StandAloneContext()

    def build():
        torch.manual_seed(0)
        model = context.build("model", MODEL)
        model.set_attn_implementation(attention)
        return model

    optimizer = context.build("optimizer", {"type": "adamw"})
    objective = context.build("objective", {"type": "next-token"})
    strategy = Replicated(CONTEXT)
    strategy.prepare(Setup(model=build(), optimizer=optimizer, objective=objective, **settings))
    return strategy


def _batch(strategy: Replicated):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, 258, (ROWS, LENGTH + 1), generator=generator).numpy()
    places = torch.arange(LENGTH).numpy()
    return strategy._setup.objective.collate(
        [
            Example(LENGTH, {"input_ids": r[:-1], "labels": r[1:], "position_ids": places})
            for r in rows
        ]
    )


def _trained(strategy: Replicated) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of one batch."""
    sums = strategy.forward_backward([_batch(strategy)], {"loss": ROWS * LENGTH})
    return float(sums["loss"]), [master.grad for master in strategy._masters]


def _kept(strategy: Replicated) -> int:
    """Bytes that one forward pass leaves for backward, weights left out, each storage once."""
    own = {p.untyped_storage().data_ptr() for p in strategy._model.parameters()}
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    before = _selected()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = strategy._module(_batch(strategy))
    for result in _selected():
        if not any(result is old for old in before):
            keep(result.val)
    assert terms["loss"].grad_fn is not None
    return sum(s.nbytes() for pointer, s in storages.items() if pointer not in own)


def _selected() -> list:
    """Where torch's selective checkpointing has its results: no hook sees them."""
    return [thing for thing in gc.get_objects() if type(thing).__name__ == "_VersionWrapper"]


@pytest.mark.parametrize("attention", ["engine_blocks", "sdpa", "eager"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("how", HOW)
def test_kept_bytes_are_as_planned(attention, precision, how):
    """Within 1 %: the layers' inputs, or with their products, or everything."""
    strategy = _strategy(attention, precision=precision, activation_checkpointing=how)
    shape = StandAloneContext().config("model", MODEL).shape(258)
    scores = {"engine_blocks": "causal", "sdpa": "none", "eager": "all"}[attention]
    one = Pass(ROWS, LENGTH, 4 if precision == "fp32" else 2, scores)
    planned = shape.layers * layer_bytes(shape, one, HOW[how]) + model_bytes(shape, one)
    if how:  # rotary angles are then in a closure, where no hook sees them
        planned -= 2 * one.width * shape.head_width * one.tokens
    assert _kept(strategy) == pytest.approx(planned, rel=0.01)


@pytest.mark.parametrize("attention", ["engine_blocks", "sdpa", "eager"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_and_gradients_stay_the_same(attention, precision):
    """To the bit, whatever is computed again or kept elsewhere."""
    loss, gradients = _trained(_strategy(attention, precision=precision))
    for settings in (
        {"activation_checkpointing": "selective"},
        {"activation_checkpointing": "full"},
        {"activation_checkpointing": "full", "offload_activations": True},
        {"offload_activations": True},
    ):
        again, same = _trained(_strategy(attention, precision=precision, **settings))
        assert again == loss
        assert all(map(torch.equal, gradients, same))


def test_selective_keeps_less_than_everything_and_more_than_inputs():
    """And computes less again than whole layers: no product with a weight."""
    kept, products = [], []
    for how in (False, "selective", "full"):
        strategy = _strategy(activation_checkpointing=how)
        kept.append(_kept(strategy))
        with _Counted() as counted:
            _trained(strategy)
        products.append(counted.products)
    assert kept[0] > 2 * kept[1] > 4 * kept[2]
    assert products[0] == products[1] < products[2]


class _Counted(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts products with weights."""

    products = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.products += operation is torch.ops.aten.mm.default
        return operation(*args, **(kwargs or {}))


def test_what_is_offloaded_leaves_the_device(monkeypatch):
    """Activations do, weights and views of them do not; on a CPU nothing is copied."""
    weight = torch.nn.Parameter(torch.randn(4, 4))
    activation = torch.randn(4, 4)
    for tensor in (weight, weight.t(), activation):
        assert activations._away(tensor)[1] is tensor
    asked = []
    monkeypatch.setattr(torch, "empty", lambda *_, **options: asked.append(options) or activation)
    elsewhere = torch.nn.Parameter(torch.empty_like(weight, device="meta"))
    for tensor in (elsewhere, elsewhere.t()):
        assert activations._away(tensor)[1] is tensor
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        activations._away(elsewhere.detach().clone())
    assert asked == [{"dtype": torch.float32, "pin_memory": False}]
