"""`engine plan` shows what each train stage of a spec will need, as a table and as data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from engine_plan.forecast import forecasts
from engine_plan.machine import Machine
from support.models import A_MILLION as MODEL

from engine import load_spec
from engine.testing import StandAloneContext

pytestmark = pytest.mark.usefixtures("on_a_cpu")
ROOT = Path(__file__).parents[3]


def test_every_train_stage_has_its_table(plan, train, tiny_spec, write_spec, command):
    """In 80 columns; figures for machines add up."""
    tiny_spec["stages"]["chat"] = {"train": {**train, "model": "base"}}
    out, _ = command("plan", write_spec(tiny_spec), "--price", 3, "--speed", 1e11)
    assert max(map(len, out.splitlines())) <= 80
    words = [line.split()[0] for line in out.splitlines()]
    assert words.count("parameters") == words.count("disk") == words.count("time") == 2
    assert [w for w in words if w in tiny_spec["stages"]] == ["base", "chat"]
    for stage in plan():
        kinds = {k: v for k, v in stage["memory"].items() if k not in ("total", "available")}
        assert sum(kinds.values()) == pytest.approx(stage["memory"]["total"])
        assert stage["fits"]
        assert stage["flops"] == stage["steps"] * stage["step"]["flops"]


def test_the_plan_is_as_shown(command, monkeypatch, tmp_path):
    """In specs/README.md, but for this machine's cores."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("ENGINE_PRECISION", "bf16")
    page = (ROOT / "specs" / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\$ engine (plan .*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    assert len(found) == 2
    for line, shown in found:
        runs = () if "--compute" in line else ("--runs", tmp_path)
        out, _ = command(*line.split(), *runs)
        lines = [re.sub(r"\d+ CPU cores", "2 CPU cores", t).rstrip() for t in out.splitlines()]
        assert lines == shown.splitlines()


def test_budgets_become_steps_time_and_cost(plan, train):
    """Of a given speed and price; epochs are not known before the data is there."""
    speed = ("--speed", 1e9, "--price", 2)
    for budget, steps in (("6 steps", 6), ("100k tokens", 13)):
        train["budget"] = budget
        (stage,) = plan(*speed)
        seconds = steps * stage["step"]["flops"] / 1e9
        assert (stage["steps"], stage["tokens"]) == (steps, steps * 8192)
        assert stage["seconds"] == pytest.approx(seconds)
        assert stage["cost"] == pytest.approx(2 * seconds / 3600)
    train["budget"] = "1h"
    (stage,) = plan(*speed)
    assert stage["seconds"] == pytest.approx(3600, rel=0.01)
    train["budget"] = "2 epochs"
    (stage,) = plan(*speed)
    assert stage["steps"] is stage["seconds"] is stage["cost"] is None
    assert stage["step"]["seconds"] > 0


@pytest.mark.covers("BatchSize.examples")
def test_a_batch_of_examples_is_as_many_rows(plan, train):
    """As training has it: eight examples are eight rows, and few may be longer than a usual batch."""
    train |= {"batch": {"tokens": 8 * 256}}
    (wanted,) = plan()
    train["batch"] = {"examples": 8}
    assert plan() == [wanted]
    train |= {"model": {**MODEL, "context": 20_000}, "batch": {"examples": 1}}
    assert plan()[0]["tokens"] == 6 * 20_000


def test_the_plan_reads_what_training_reads(plan, train):
    """Micro-batches, precision, averages, recomputation and checkpoints."""

    def changed(**fields):
        before = plan()[0]
        train.update(fields)
        after = plan()[0]
        return {
            "disk": after["disk"] / before["disk"],
            **{k: after["memory"][k] / v for k, v in before["memory"].items()},
        }

    assert changed(batch={"tokens": 8192, "micro_tokens": 2048})["activations"] < 0.5
    assert changed(batch={"tokens": 2048, "sequence": 128})["activations"] < 1
    assert changed(precision="bf16")["parameters"] == 0.5
    averaged = changed(ema=0.9)
    assert averaged["optimizer"] == pytest.approx(16 / 12)
    assert averaged["disk"] > 1.2
    selective = changed(activation_checkpointing="selective")["activations"]
    assert changed(activation_checkpointing="full")["activations"] < selective < 0.7
    assert changed(activation_checkpointing=True)["activations"] == 1
    assert changed(offload_activations=True)["activations"] == 1  # they are in this memory anyway
    assert changed(checkpoint={"keep": 9})["disk"] > 2
    assert changed(optimizer={"type": "muon"})["optimizer"] < 0.9
    assert changed(penalties=["distance-to-start"])["parameters"] == 3  # of 2 bytes each, 4 more


def test_an_accelerator_s_activations_may_be_elsewhere(train, tiny_spec, write_spec):
    """Then only the layer at work is there."""
    gpu = Machine("cuda", "", 80e9)
    here = forecasts(load_spec(write_spec(tiny_spec)).situation(), gpu)[
        "base"
    ].chosen.estimate.memory
    train["offload_activations"] = True
    away = forecasts(load_spec(write_spec(tiny_spec)).situation(), gpu)[
        "base"
    ].chosen.estimate.memory
    assert here.activations > away.buffers > away.activations == 0


def test_a_model_of_unknown_size(plan, train, command, tiny_spec, write_spec):
    """Says so instead of guessing."""
    train["model"] = {"type": "pretrained", "path": "someone/model", "revision": "0" * 40}
    assert plan() == [{"stage": "base", "parameters": None}]
    assert "its size is not known" in command("plan", write_spec(tiny_spec))[0]


def test_what_a_spec_leaves_to_defaults_is_counted_on_the_built_model(plan, train):
    """To the last parameter, as learned positions and biases are."""
    config = {"n_layer": 2, "vocab_size": 320}
    train["model"] = {"type": "causal-lm", "architecture": "gpt2", "config": config}
    model = StandAloneContext().build("model", train["model"])
    assert plan()[0]["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_strategy_that_chooses_says_what(plan, train, command, tiny_spec, write_spec):
    """And why, for people and machines."""
    train["strategy"] = "auto"
    (stage,) = plan("--nproc", 2)
    assert stage["strategy"] == {"type": "ddp"}
    out, _ = command("plan", write_spec(tiny_spec), "--nproc", 2, "--speed", 1e11)
    assert stage["why"] in " ".join(out.split())
    assert stage["why"].startswith("least traffic and waiting of ")


def test_a_part_that_is_trained_is_an_upper_bound(plan, train):
    """What is frozen needs less, and is not known before the model is built."""
    assert plan()[0]["upper_bound"] is False
    train["freeze"] = ["*.embed_tokens.*"]
    assert plan()[0]["upper_bound"] is True
