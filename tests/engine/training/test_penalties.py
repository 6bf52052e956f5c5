"""Penalties: the same loss and gradient however a batch is cut, and refusals where that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import runs

from engine import Batch, RunError
from engine.training.penalties import real_tokens

MODEL = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "num_local_experts": 4, "max_position_embeddings": 32,
}  # fmt: skip
PENALTIES = [
    {"type": "z-loss", "weight": 0.01},
    {"type": "distance-to-start", "weight": 0.1},
    {"type": "load-balance", "weight": 0.1},
]
CUT = {"batch": {"tokens": 256, "micro_tokens": 96}}
ALONE = {
    "whole": {},
    "accumulated": CUT,
    "recomputed": {"activation_checkpointing": True},
    "recomputed-in-part": {"activation_checkpointing": "selective", **CUT},
    "no-distance": {"penalties": [PENALTIES[0], PENALTIES[2]]},
    "z-loss-alone": {"penalties": PENALTIES[:1]},
}
TWO = {
    "ddp": ({"strategy": "ddp"}, "whole"),
    "sharded": ({"strategy": {"type": "mesh", "shard": 2}}, "whole"),
    "sharded-recomputed": (
        {"strategy": {"type": "mesh", "shard": 2}, "activation_checkpointing": True, **CUT},
        "whole",
    ),
    "zero-2": ({"strategy": {"type": "zero", "stage": 2}}, "no-distance"),
    "zero-3": ({"strategy": {"type": "zero", "stage": 3}}, "no-distance"),
    "context": ({"strategy": {"type": "mesh", "context": 2}}, "z-loss-alone"),
    "expert": ({"strategy": {"type": "mesh", "expert": 2}}, "z-loss-alone"),
}


@pytest.fixture
def train(tiny_spec, outside):
    """The train stage of a spec: a model with experts, one penalty of each kind."""
    tiny_spec["plugins"] = ["outside"]
    train = tiny_spec["stages"]["base"]["train"]
    train["model"] = {"type": "causal-lm", "architecture": "mixtral", "config": MODEL}
    del train["evaluate"]
    return train | {"penalties": PENALTIES, "precision": "fp32", "budget": "4 steps"}


@pytest.mark.covers("Train.penalties")
def test_terms_do_not_depend_on_how_a_batch_is_cut(
    tiny_spec, train, run_here, write_spec, prepared, warm, outside, tmp_path
):
    """Into micro-batches, recomputed layers, copies on ranks, sharded weights, parts of rows: each
    step's terms and gradient norm to 1e-5, as sums in float32 differ in their order.

    The shares of experts begin even: the term of each of 2 layers is 1, times its weight. The distance
    begins at 0.
    """
    corpus = tiny_spec["stages"].pop("corpus")
    tiny_spec["stages"] = {"corpus": corpus}
    for name, settings in ALONE.items():
        tiny_spec["stages"][name] = {"train": train | settings}
    alone = run_here(tiny_spec)
    first, *_, last = alone.events("step", stage="whole")
    assert first["loss/penalty/load-balance"] == pytest.approx(0.2, rel=1e-6)
    assert last["loss/penalty/load-balance"] != first["loss/penalty/load-balance"]
    assert last["loss/penalty/distance-to-start"] > first["loss/penalty/distance-to-start"] == 0
    tiny_spec["stages"] = {"corpus": corpus}
    for name, (settings, other) in TWO.items():
        tiny_spec["stages"][name] = {"train": train | ALONE[other] | settings}
    two = prepared(tmp_path / "two")
    script = Path(runs.__file__).with_name("outside.py")
    spec = write_spec(tiny_spec)
    warm.ranks(2, [script, outside, "run", spec, "--runs", two.parent])
    pairs = [(alone.folder, name, "whole") for name in list(ALONE)[1:4]]
    pairs += [(two, name, other) for name, (_, other) in TWO.items()]
    for folder, name, other in pairs:
        expected = alone.events("step", stage=other)
        found = runs.events(folder, "step", stage=name)
        assert len(found) == len(expected) == 4
        for term in {"loss", "grad_norm", *(t for t in first if "penalty" in t)} & expected[
            0
        ].keys():
            values = [step[term] for step in expected]
            assert [step[term] for step in found] == pytest.approx(values, rel=1e-5), (name, term)


@pytest.mark.covers(*(f"penalty/{one['type']}.weight" for one in PENALTIES[:2]))
@pytest.mark.covers(*(f"penalty/{one['type']}.name" for one in PENALTIES[:2]))
def test_weights_and_names(tiny_spec, train, run_here):
    """A term counts by its weight, and events call it by its name, or by its type."""
    twice = [
        {**one, "name": f"twice-{one['type']}", "weight": 2 * one["weight"]}
        for one in PENALTIES[:2]
    ]
    penalties = [*PENALTIES[:2], *twice]
    tiny_spec["stages"]["base"]["train"] = train | {"penalties": penalties, "budget": "2 steps"}
    step = run_here(tiny_spec).events("step")[-1]
    terms = [step[f"loss/penalty/{one.get('name', one['type'])}"] for one in penalties]
    assert terms[2:] == pytest.approx([2 * term for term in terms[:2]], rel=1e-6)
    assert step["loss"] == pytest.approx(step["loss/loss"] + sum(terms), rel=1e-6)


def test_its_state_is_resumed(tiny_spec, train, run_here):
    """A stage that went on from its checkpoint has the weights of one that was never interrupted."""
    train |= {"optimizer": {"type": "adamw", "schedule": {"type": "constant", "warmup": "1 steps"}}}
    weights = []
    for runs_in, budgets in (("whole", ["4 steps"]), ("in-two", ["2 steps", "4 steps"])):
        for budget in budgets:
            tiny_spec["stages"]["base"]["train"] = train | {"budget": budget}
            weights.append(run_here(tiny_spec, runs=runs_in).weights())
    whole, half, resumed = weights
    assert not torch.equal(half["lm_head.weight"], whole["lm_head.weight"])
    for name, weight in whole.items():
        assert torch.equal(resumed[name], weight), name


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (
            {"strategy": {"type": "mesh", "tensor": 2}},
            [
                "penalties.0: 'z-loss' reads hidden, which strategy 'mesh' does not give",
                "penalties.1: 'distance-to-start' reads parameters",
                "penalties.2: 'load-balance' reads modules",
            ],
        ),
        ({"strategy": {"type": "mesh", "pipeline": 2}}, ["penalties.0: 'z-loss' reads hidden"]),
        ({"strategy": {"type": "zero"}}, ["penalties.1: 'distance-to-start' reads parameters"]),
        ({"compile": True}, ["penalties.2: 'load-balance' reads modules, which `compile` hides"]),
        (
            {"objective": {"type": "trl-ppo", "reward": "length"}},
            ["penalties.0: 'trl-ppo' has a loop of its own, without penalties"],
        ),
    ],
    ids=["tensor", "pipeline", "zero", "compile", "external-loop"],
)
def test_where_a_term_would_be_another_it_is_refused(
    settings, refused, train, tiny_spec, write_spec, command
):
    """Before anything runs, with what the penalty reads."""
    tiny_spec["stages"]["base"]["train"] = train | settings
    _, told = command("validate", write_spec(tiny_spec), "--nproc", 2, status=2)
    for line in refused:
        assert line in told


def test_a_module_that_the_model_lacks_is_refused_before_the_first_step(tiny_spec, train, run_here):
    """As is what a penalty asks of a model without experts."""
    train["model"] = {"type": "causal-lm", "architecture": "mamba", "config": {"hidden_size": 32}}
    tiny_spec["stages"]["base"]["train"] = train
    with pytest.raises(RunError, match="penalty 'load-balance'"):
        run_here(tiny_spec)


def test_real_tokens_are_told_from_padding():
    """Documents of one token at the end of rows, beside padding."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        rows = [rng.integers(1, 4, size=rng.integers(1, 4)) for _ in range(3)]
        width = max(row.sum() for row in rows)
        ids = np.zeros((3, width), np.int64)
        places, real = np.zeros_like(ids), np.zeros((3, width), bool)
        for number, lengths in enumerate(rows):
            length = lengths.sum()
            ids[number, :length] = rng.integers(1, 5, size=length)
            places[number, :length] = np.concatenate([np.arange(n) for n in lengths])
            real[number, :length] = True
        inputs = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(places)}
        found = real_tokens(Batch(inputs, {}, {}, tokens=int(real.sum())))
        np.testing.assert_array_equal(found.numpy(), real)
        stand_in = real_tokens(Batch(inputs, {}, {}, tokens=0))
        assert not stand_in.any()


def test_padding_that_cannot_be_told_is_refused():
    """Fewer tokens than the documents have, or no position ids."""
    inputs = {
        "input_ids": torch.ones(1, 4, dtype=torch.long),
        "position_ids": torch.arange(4)[None],
    }
    with pytest.raises(RunError, match="a micro-batch of 3 tokens has 4 in documents"):
        real_tokens(Batch(inputs, {}, {}, tokens=3))
    del inputs["position_ids"]
    with pytest.raises(RunError, match="input_ids and position_ids"):
        real_tokens(Batch(inputs, {}, {}, tokens=4))
