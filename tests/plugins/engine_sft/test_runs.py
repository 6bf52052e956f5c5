"""Whole runs of `sft`: resumed, accumulated, on two processes, with noise, on real records."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from engine_tools.verify_resume import verify_resume
from support.runs import steps

CHAT = {"type": "sft", "template": "plain"}
STAGES = {
    "singles": {"objective": {**CHAT, "packing": False}},
    "packed": {"objective": {**CHAT, "turns": "last"}},
    "lora": {"model": {"type": "stage", "stage": "base", "adapter": {"type": "lora", "r": 4}}},
    "dora": {"model": {"type": "stage", "stage": "base", "adapter": {"type": "dora", "r": 4}}},
}
# Below the threshold, ZeRO-3 leaves weights whole: here none are, as of a model that needs it.
ALL_DIVIDED = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
STRATEGIES = [
    {"type": "ddp"},
    {"type": "mesh", "shard": 2},
    {"type": "zero", "stage": 2},
    {"type": "zero", "stage": 3, "config": ALL_DIVIDED},
]


@pytest.fixture
def spec(stage, talks):
    """The tiny spec, and a stage for every way to fine-tune."""
    made = stage(talks, CHAT, batch={"tokens": 768, "sequence": 96})
    tuned = made["stages"].pop("tuned")["train"]
    for name, fields in STAGES.items():
        made["stages"][name] = {"train": {**copy.deepcopy(tuned), **fields}}
    return made


def _losses(run: Path) -> dict[str, list[float]]:
    return {name: steps(run, "loss", stage=name) for name in STAGES}


def test_resumed_and_accumulated(spec, run_here):
    """Broken off after two steps of four, with NEFTune's noise too: bit by bit the weights of the
    unbroken run. In pieces of one row, without noise, the curve is that of whole batches."""
    whole = run_here(spec, runs="whole")
    pieces = [f"stages.{name}.train.batch.micro_tokens=96" for name in STAGES]
    small = run_here(spec, runs="pieces", overrides=pieces)
    wanted = _losses(whole.folder)
    assert all(len(set(losses)) == 4 for losses in wanted.values())
    for name, losses in _losses(small.folder).items():
        assert losses == pytest.approx(wanted[name], rel=1e-5), name
    noise = [f"stages.{name}.train.objective.neftune=5" for name in STAGES]
    noisy = run_here(spec, runs="noisy", overrides=noise)
    less = [f"stages.{name}.train.budget=2 steps" for name in STAGES]
    assert run_here(spec, runs="broken", overrides=[*noise, *less]).status == 0
    broken = run_here(spec, runs="broken", overrides=noise)
    for name in STAGES:
        ours, theirs = noisy.weights(name), broken.weights(name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[n], theirs[n]) for n in ours), name


def test_two_processes_train_as_one(spec, write_spec, run_here, warm, tmp_path):
    """Under `ddp` (broken off in between), `mesh` and `zero`: the curves of `single`, to 1e-5, and its
    weights, whichever ranks they come from."""
    alone = run_here(spec, runs="alone")
    for number in range(len(STRATEGIES)):
        for name in ("corpus", "base"):
            folder = tmp_path / "shared" / str(number) / "tiny"
            shutil.copytree(alone.folder / name, folder / name)
    script = Path(__file__).parents[1] / "engine_rlhf" / "two_ranks.py"
    strategies = map(json.dumps, STRATEGIES)
    warm.ranks(2, [script, write_spec(spec), tmp_path / "shared", *strategies])
    wanted = _losses(alone.folder)
    for number, strategy in enumerate(STRATEGIES):
        run = type(alone)(tmp_path / "shared" / str(number) / "tiny", 0)
        for name, losses in _losses(run.folder).items():
            assert losses == pytest.approx(wanted[name], rel=1e-5), (strategy, name)
            ours, theirs = alone.weights(name), run.weights(name)
            assert ours.keys() == theirs.keys()
            for key, weight in ours.items():
                torch.testing.assert_close(weight, theirs[key], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("source", ["hh", "self_instruct"])
def test_real_records_are_learnt(stage, run_here, request, source):
    """HH's conversations, self-instruct's instructions: every record is learnt from or told why not,
    and the loss falls by a fifth."""
    rows = request.getfixturevalue(source)[:200]
    spec = stage(
        rows,
        {"type": "sft", "template": "plain"},
        batch={"tokens": 1536, "sequence": 96},
        budget="20 steps",
        optimizer={"type": "adamw", "lr": 1e-2},
    )
    run = run_here(spec)
    (told,) = run.events("examples")
    assert (told["records"], told["held_out"]) == (len(rows), 0)
    (reason,) = told["dropped"]
    assert reason == "with all answers beyond the 96 tokens of a row"
    assert 0 < told["truncated"] < len(rows) - told["dropped"][reason]
    losses = run.steps("loss", stage="tuned")
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.covers("Train.limit", "Train.holdout")
def test_learning_from_the_first_few(stage, run_here, sums):
    """Of those that are not held out; the others are never looked at."""
    spec = stage(sums, {"type": "sft", "packing": False}, limit=8, holdout=0.5)
    spec["stages"]["tuned"]["train"]["batch"] = {"examples": 8}
    (told,) = run_here(spec).events("examples")
    assert told["rows"] == 8
    assert told["records"] == told["held_out"] + 8 < 64
    assert told["held_out"] > 0


def test_a_limit_of_text_is_an_error_in_the_spec(stage, write_spec, engine, sums):
    """There are no examples to count."""
    spec = stage(sums)
    spec["stages"]["base"]["train"]["limit"] = 8
    told = engine("validate", write_spec(spec), status=2).stderr
    assert "limit: 'corpus' has text, not examples; leave this out" in " ".join(told.split())


@pytest.mark.parametrize(
    ("field", "told"), [("weight", "has weight 0"), ("max_epochs", "the data ends")]
)
def test_a_source_of_records_obeys_its_share(stage, run_here, sums, field, told):
    """As in a prepare stage: a weight of 0 is nothing, and epochs are counted."""
    from engine import EngineError

    spec = stage(sums, budget="30 steps")
    spec["stages"]["tuned"]["train"]["data"][field] = {"weight": 0, "max_epochs": 2}[field]
    with pytest.raises(EngineError, match=told):
        run_here(spec)


@pytest.mark.soak
def test_killed_at_random_moments(spec, write_spec):
    """SIGKILL to whole runs, at whatever stage they are."""
    assert verify_resume(write_spec(spec), [], steps=4, kills=5, nproc=1) == 0
