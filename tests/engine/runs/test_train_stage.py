"""A train stage's seed, precision, compiling, budget, clipping and freezing do what they say."""

from __future__ import annotations

import json

import pytest
import torch
from engine_parallel.replicated import Replicated

from engine.errors import RunError
from engine.runs import automatic as choices


@pytest.fixture
def setups(monkeypatch):
    """What strategies are asked to prepare; they do so as always."""
    seen = []
    prepare = Replicated.prepare

    def spy(self, setup):
        seen.append(setup)
        prepare(self, setup)

    monkeypatch.setattr(Replicated, "prepare", spy)
    return seen


@pytest.mark.covers("Train.data", "Train.model", "Train.objective", "Train.optimizer", "Spec.seed")
def test_the_same_spec_gives_the_same_loss_to_the_last_bit(tiny_spec, train, run_here):
    """And another seed, model or optimizer another one."""
    first = run_here(tiny_spec, runs="a").steps("loss")
    assert run_here(tiny_spec, runs="b").steps("loss") == first
    tiny_spec["seed"] = 6
    assert run_here(tiny_spec, runs="c").steps("loss") != first
    tiny_spec["seed"] = 5
    train["optimizer"]["type"] = "muon"
    assert run_here(tiny_spec, runs="d").steps("loss") != first
    train["model"]["layers"] = 1
    run = run_here(tiny_spec, runs="e")
    assert not any("layers.1" in name for name in run.weights())


def test_golden_losses(tiny_spec, train, run_here):
    """Whoever changes these numbers changes what everybody's runs compute.

    Float32 on one thread; 1e-3 leaves room for other processors' summation orders.
    """
    train |= {"precision": "fp32", "budget": "24 steps"}
    train["optimizer"]["lr"] = 2e-2
    assert run_here(tiny_spec).steps("loss")[::4] == pytest.approx(GOLDEN, rel=1e-3)


GOLDEN = [5.73891, 3.76719, 3.0528, 3.02062, 2.85904, 2.70114]


@pytest.mark.covers(
    "Train.precision", "Train.ema", "Train.compile", "Train.activation_checkpointing",
    "Train.offload_activations",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
def test_the_strategy_is_told_how_to_compute(tiny_spec, train, run_here, setups, monkeypatch):
    """What each of these does to the numbers, the strategy's own tests show."""
    monkeypatch.setattr("engine_parallel.replicated.compile_layers", lambda model: None)
    run_here(tiny_spec, runs="a")
    train |= {"precision": "fp16", "ema": 0.5, "compile": True}
    train |= {"activation_checkpointing": "selective", "offload_activations": True}
    run_here(tiny_spec, runs="b")
    plain, told = setups
    assert (plain.precision, plain.ema, plain.compile) == ("fp32", None, False)
    assert (told.precision, told.ema, told.compile) == ("fp16", 0.5, True)
    assert (plain.activation_checkpointing, told.activation_checkpointing) == (False, "selective")
    assert (plain.offload_activations, told.offload_activations) == (False, True)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
def test_long_training_is_compiled_where_rows_are_alike(
    tiny_spec, train, run_here, setups, monkeypatch, tmp_path
):
    """Rows of other lengths than the sequence run eagerly; who asks for more is told."""
    monkeypatch.setattr(choices, "_COMPILE_ABOVE_FLOPS", {"cpu": 1.0})
    monkeypatch.setattr("engine_parallel.replicated.compile_layers", lambda model: None)
    row = json.dumps({"prompt": "one", "completion": "two"})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n" * 8, encoding="utf-8")
    train |= {"budget": "1 steps", "batch": {"examples": 8}, "evaluate": []}
    tuned = {
        **train,
        "data": {"type": "files", "paths": [f"{tmp_path}/rows.jsonl"], "records": "completion"},
        "model": "base",
        "objective": {"type": "sft", "packing": False},
    }
    tiny_spec["stages"] |= {"auto": {"train": tuned}, "told": {"train": {**tuned, "compile": True}}}
    run = run_here(tiny_spec)
    assert [setup.compile for setup in setups] == [True, False, False]
    (warning,) = [e for e in run.events("warning") if e["message"].startswith("compile: ")]
    assert warning["stage"] == "told"


@pytest.mark.covers("Train.budget")
@pytest.mark.parametrize(
    ("budget", "steps"), [("5 steps", 5), ("1000 tokens", 4), ("0.5 epochs", None)]
)
def test_a_budget_counts_in_steps_tokens_or_epochs(tiny_spec, train, run_here, budget, steps):
    """Training ends with the first step that reaches it."""
    train["budget"] = budget
    run = run_here(tiny_spec)
    rows = run.events("training")[0]["rows"]
    expected = steps or -(-rows // 2 // 8)  # eight rows of 32 tokens are a batch
    assert len(run.steps("step")) == expected


def test_a_budget_of_time_ends(tiny_spec, train, run_here):
    """After so many seconds of steps, and not at the first."""
    train["budget"] = "1s"
    assert sum(1 for _ in run_here(tiny_spec).steps("step")) > 5


@pytest.mark.covers("Train.clip")
def test_clipping_bounds_the_update(tiny_spec, train, run_here):
    """With plain momentum-free steps the same gradients move the weights less."""
    train |= {"budget": "1 steps", "precision": "fp32"}
    train["optimizer"] |= {
        "eps": 1.0,
        "lr": 1.0,
        "weight_decay": 0,
    }  # all but linear in the gradient
    start = run_here(_untrained(tiny_spec), runs="start").weights()
    train["clip"] = None
    free = _moved(start, run_here(tiny_spec, runs="free").weights())
    train["clip"] = 0.01
    held = _moved(start, run_here(tiny_spec, runs="held").weights())
    assert held < 0.1 * free


@pytest.mark.covers("Train.freeze")
def test_frozen_parameters_do_not_move(tiny_spec, train, run_here):
    """By glob; all others do."""
    start = run_here(_untrained(tiny_spec), runs="start").weights()
    train["freeze"] = ["model.layers.0.*"]
    weights = run_here(tiny_spec, runs="frozen").weights()
    moved = {name for name in weights if not torch.equal(weights[name], start[name])}
    frozen = {name for name in weights if name.startswith("model.layers.0.")}
    assert moved == weights.keys() - frozen
    train["freeze"] = ["model.layer.*"]
    with pytest.raises(RunError, match=r"no parameter matches 'model\.layer"):
        run_here(tiny_spec, runs="wrong")
    train["freeze"] = ["*"]
    with pytest.raises(RunError, match="no parameter is left to train"):
        run_here(tiny_spec, runs="all")


def _untrained(spec: dict) -> dict:
    import copy

    spec = copy.deepcopy(spec)
    spec["stages"]["base"]["train"]["optimizer"] |= {"lr": 1e-12, "weight_decay": 0}
    spec["stages"]["base"]["train"] |= {"budget": "1 steps", "precision": "fp32"}
    return spec


def _moved(a: dict, b: dict) -> float:
    return sum(float((a[name] - b[name]).pow(2).sum()) for name in a) ** 0.5
