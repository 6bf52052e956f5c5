"""What makes a stage what it is, and what may change in mid-run."""

from __future__ import annotations

from typing import Any

import pytest

from engine.contracts.spec import (
    Evaluate,
    Prepare,
    Spec,
    Stage,
    Train,
)
from engine.spec.identity import changes, differences, identity
from engine.spec.loading import load_spec

IDENTITY = {
    Spec: ["seed"],
    Stage: ["prepare", "train", "evaluate"],
    Prepare: ["sources", "processors", "tokenizer", "holdout"],
    Train: ["data", "processors", "model", "objective", "penalties", "optimizer", "precision", "batch",
            "clip", "freeze", "ema", "holdout", "limit", "repetition"],
    Evaluate: ["models", "data", "evaluators", "baseline"],
}  # fmt: skip
RUNTIME = {
    Spec: ["engine", "name", "plugins", "stages"],  # stages count each by itself
    Stage: [],
    Prepare: ["executor", "seconds_per_document"],
    Train: ["strategy", "budget", "activation_checkpointing", "offload_activations", "compile",
            "evaluate", "inference", "checkpoint", "check_replicas", "callbacks"],
    Evaluate: ["inference"],
}  # fmt: skip


@pytest.mark.parametrize("config", IDENTITY)
def test_every_field_is_identity_or_runtime(config):
    """As the table above has it: whoever adds a field decides what it is."""
    fields = config.model_fields
    assert sorted(fields) == sorted([*IDENTITY[config], *RUNTIME[config]])
    if config is not Spec:
        marked = [n for n, i in fields.items() if (i.json_schema_extra or {}).get("runtime")]
        assert marked == RUNTIME[config]


def _changed(spec: dict[str, Any], write_spec, *settings: str) -> dict[str, list[str]]:
    """What the settings change of the stages as they were recorded without them."""
    recorded = load_spec(write_spec(spec)).spec
    changed = load_spec(write_spec(spec), overrides=settings).spec
    return changes(changed, {name: identity(recorded, name) for name in recorded.order})


@pytest.mark.parametrize(
    "setting",
    [
        "name=other",
        "plugins=[lm]",
        "stages.base.train.strategy.type=ddp",
        "stages.base.train.budget=2h",
        "stages.base.train.checkpoint={every: 1 steps, keep: 9, background: false}",
        "stages.base.train.evaluate=[]",
        "stages.base.train.callbacks=[spike-guard]",
        "stages.base.train.compile=true",
        "stages.base.train.activation_checkpointing=true",
        "stages.base.train.activation_checkpointing=selective",
        "stages.base.train.offload_activations=true",
        "stages.base.train.check_replicas=10 steps",
        "stages.base.train.batch.micro_tokens=64",
        "stages.corpus.prepare.sources.0.weight=0.2",
        "stages.corpus.prepare.sources.0.max_epochs=2",
    ],
)
def test_a_runtime_field_leaves_a_stage_what_it_is(tiny_spec, write_spec, setting):
    """It goes on, or is done."""
    train = tiny_spec["stages"]["base"]["train"]
    train["strategy"] = {"type": "single"}
    assert _changed(tiny_spec, write_spec, setting) == {}


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ("seed=6", "corpus base"),
        ("stages.corpus.prepare.holdout=0.2", "corpus base"),
        ("stages.corpus.prepare.tokenizer.vocab_size=299", "corpus base"),
        ("stages.corpus.prepare.processors=[exact-dedup]", "corpus base"),
        ("stages.corpus.prepare.sources.0.license=MIT", "corpus base"),
        ("stages.base.train.model.layers=1", "base"),
        ("stages.base.train.optimizer.schedule=constant", ""),  # its default
        ("stages.base.train.optimizer.schedule.type=warmup-cosine", "base"),
        ("stages.base.train.precision=fp32", "base"),
        ("stages.base.train.batch.tokens=512", "base"),
        ("stages.base.train.clip=", "base"),
        ("stages.base.train.freeze=['*.0.*']", "base"),
        ("stages.base.train.ema=0.9", "base"),
    ],
)
def test_an_identity_field_makes_another_stage(tiny_spec, write_spec, setting, changed):
    """Of it, and of all that is made from it."""
    tiny_spec["stages"]["base"]["train"]["optimizer"]["schedule"] = {"type": "constant"}
    assert list(_changed(tiny_spec, write_spec, setting)) == changed.split()


def test_a_long_chain_of_stages_is_no_trouble(tiny_spec, write_spec):
    """A change of the first makes all of them others."""
    stages = tiny_spec["stages"]
    for number in range(300):
        model = f"s{number - 1}" if number else "base"
        stages[f"s{number}"] = {"train": {**stages["base"]["train"], "model": model}}
    tiny_spec["stages"] = dict(reversed(stages.items()))
    assert len(_changed(tiny_spec, write_spec, "seed=6")) == 302
    told = _changed(tiny_spec, write_spec, "stages.base.train.clip=2")
    assert len(told) == 301
    assert told["s299"] == ["one of its inputs has changed"]


def test_differences_are_told_leaf_by_leaf():
    """So that a long spec's one change is one line."""
    old = {"a": {"b": 1, "c": [{"d": 1}, 2]}, "e": [1]}
    new = {"a": {"b": 1, "c": [{"d": 3}, 2], "f": None}, "e": [1, 2]}
    assert differences(old, new) == ["a.c.0.d: 1 → 3", "e: [1] → [1, 2]"]
    assert differences(old, old) == []


@pytest.mark.parametrize(
    ("field", "setting", "changed"),
    [
        ("clip", "seed=5", ""),
        ("clip", "stages.base.train.clip=2", "clip: None → 2.0"),
        ("batch.ramp", "seed=5", ""),
        ("batch.ramp", "stages.base.train.batch.ramp={every: 2 steps}", "batch.ramp: None → "),
        ("optimizer.schedule", "seed=5", ""),
        (
            "optimizer.schedule",
            "stages.base.train.optimizer.schedule=warmup-cosine",
            "optimizer.schedule",
        ),
        ("model.norm_eps", "stages.base.train.model.norm_eps=1e-6", "model.norm_eps: None → 1e-06"),
    ],
)
def test_a_field_that_has_come_since_makes_no_difference_at_its_default(
    tiny_spec, write_spec, field, setting, changed
):
    """A run of an older version goes on; where the spec gives the new field a value, it is told."""
    spec = load_spec(write_spec(tiny_spec)).spec
    recorded = identity(spec, "base")
    *outer, name = field.split(".")
    inner = recorded
    for part in outer:
        inner = inner[part]
    del inner[name]
    now = load_spec(write_spec(tiny_spec), overrides=[setting]).spec
    found = changes(now, {"base": recorded})
    assert "; ".join(found.get("base", [])).startswith(changed)
    assert bool(found) == bool(changed)


@pytest.mark.parametrize(("was", "told"), [("text", []), ("body", ["text_field: body → None"])])
def test_a_field_that_is_gone_makes_no_difference_at_its_default(tiny_spec, write_spec, was, told):
    """A run that had used it is another one."""
    spec = load_spec(write_spec(tiny_spec)).spec
    recorded = identity(spec, "corpus")
    recorded["sources"][0]["text_field"] = was
    found = changes(spec, {"corpus": recorded}).get("corpus", [])
    assert [line.removeprefix("sources.0.") for line in found] == told


def test_a_default_that_has_changed_since_is_told(tiny_spec, write_spec):
    """The old run had another value, whoever chose it."""
    spec = load_spec(write_spec(tiny_spec)).spec
    recorded = {**identity(spec, "base"), "clip": 0.5}
    assert changes(spec, {"base": recorded}) == {"base": ["clip: 0.5 → 1.0"]}


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("bf16", "auto", []),
        ("auto", "auto", []),
        ("auto", "bf16", ["precision: auto → bf16"]),
        ("bf16", "fp32", ["precision: bf16 → fp32"]),
    ],
)
def test_auto_is_whatever_was_recorded(tiny_spec, write_spec, was, now, told):
    """The identity holds ``auto``, not what the machine chose."""
    tiny_spec["stages"]["base"]["train"]["precision"] = was
    recorded = identity(load_spec(write_spec(tiny_spec)).spec, "base")
    assert recorded["precision"] == was
    tiny_spec["stages"]["base"]["train"]["precision"] = now
    found = changes(load_spec(write_spec(tiny_spec)).spec, {"base": recorded})
    assert found.get("base", []) == told


def test_a_stage_that_held_prompts_out_by_other_means_is_refused(tiny_spec, write_spec, tmp_path):
    """By name, and with it what depends on it; texts and stages that hold nothing out stay as they
    were."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "prompt": "b", "completion": "c"}\n', encoding="utf-8")
    base = tiny_spec["stages"]["base"]["train"]
    for name, schema, share in (
        ("held", "completion", 0.1),
        ("all", "completion", 0),
        ("t", "text", 0.1),
    ):
        takes = "next-token" if schema == "text" else "sft"
        data = {"type": "files", "paths": [str(file)], "records": schema}
        changed = {"data": data, "objective": {"type": takes}, "model": "base", "holdout": share}
        tiny_spec["stages"][name] = {"train": {**base, **changed, "evaluate": []}}
    tiny_spec["stages"]["after"] = {"train": {**base, "model": "held", "evaluate": []}}
    spec = load_spec(write_spec(tiny_spec)).spec
    now = {name: identity(spec, name) for name in spec.order}
    assert changes(spec, now) == {}
    before = {n: {k: v for k, v in i.items() if k != "held_out_by"} for n, i in now.items()}
    assert changes(spec, before) == {
        "held": ["held_out_by: prompt or id → first user turn"],
        "after": ["one of its inputs has changed"],
    }
