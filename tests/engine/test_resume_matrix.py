"""Promise 1 for settings together: stopped by a signal and resumed, the weights are the same bits.

Every pair of settings that touch a step stands in one run at least.
"""

from __future__ import annotations

import copy
import json
import shutil
import signal
import sys
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import torch
import yaml
from engine_parallel.replicated import Replicated
from safetensors.torch import load_file

from engine.launch import Process
from engine.session import run_spec
from engine.spec import load_spec

sys.path.insert(0, str(Path(__file__).parent))

from pairwise import covering

STEPS, STOPPED = 6, 3
RECORDS = {
    "sft": "completion",
    "sft-packed": "completion",
    "sft-noise": "completion",
    "distill": "completion",
    "reward": "preference",
    "cost": "preference",
    "dpo": "preference",
    "kto": "preference",
    "ppo": "prompt",
    "grpo": "prompt",
    "rloo": "prompt",
}
_ONLINE = {"rewards": [{"type": "length"}], "answer_tokens": 6, "mini_batches": 2, "passes": 2}
OBJECTIVES = {
    "next-token": {"type": "next-token"},
    "sft": {"type": "sft", "packing": False},
    "sft-packed": {"type": "sft", "packing": True},
    "sft-noise": {"type": "sft", "packing": False, "neftune": 5.0},
    "distill": {"type": "distill", "teacher": "other"},
    "reward": {"type": "reward"},
    "cost": {"type": "cost"},
    "dpo": {"type": "dpo"},
    "kto": {"type": "kto"},
    "ppo": {"type": "ppo", **_ONLINE},
    "grpo": {"type": "grpo", "answers": 2, **_ONLINE},
    "rloo": {"type": "rloo", "answers": 2, **_ONLINE},
}
EVALUATORS = {
    "next-token": "perplexity",
    **dict.fromkeys(("sft", "sft-packed", "sft-noise", "distill"), "answer-perplexity"),
    **dict.fromkeys(("reward", "cost"), "preference-accuracy"),
}
COMPILED = {"next-token", "sft-packed"}
"""Whose rows are alike; the others run eagerly, whatever ``compile`` says."""
ON_OFF = ("off", "on")
FACTORS = {
    "objective": tuple(OBJECTIVES),
    "model": ("plain", "dropout", "lora"),
    "schedule": ("constant", "warmup-cosine", "warmup-stable-decay", "inverse-sqrt"),
    "optimizer": ("adamw", "muon", "adamw-8bit"),
    "precision": ("fp32", "bf16", "fp16"),
    "activation_checkpointing": ("off", "selective", "full"),
    **dict.fromkeys(
        ("ramp", "micro", "ema", "clip", "freeze", "evaluate", "background", "guard", "compile"),
        ON_OFF,
    ),
}


def possible(row):
    """Whether there is such a run: an adapter has frozen the rest already."""
    objective = row.get("objective", "next-token")
    return not (
        (row.get("evaluate") == "on" and objective not in EVALUATORS)
        or (row.get("compile") == "on" and objective not in COMPILED)
        or (row.get("freeze") == "on" and row.get("model") == "lora")
    )


def _sample(rows):
    """A row of every objective, none of them compiled, which together hold many pairs."""
    held, sample = set(), []
    for name in OBJECTIVES:
        its = [row for row in rows if row["objective"] == name and row["compile"] == "off"]
        pairs = [set(combinations(row.items(), 2)) for row in its]
        best = max(range(len(its)), key=lambda n: len(pairs[n] - held))
        held |= pairs[best]
        sample.append(its[best])
    return sample


ROWS = covering(FACTORS, possible)
SAMPLE = _sample(ROWS)
REST = [row for row in ROWS if row not in SAMPLE]
STRATEGIES = [
    {"type": "ddp"},
    {"type": "mesh", "tensor": 2},
    {"type": "mesh", "shard": 2},
    {"type": "mesh", "data": 2},
    {"type": "ddp"},
    {"type": "mesh", "shard": 2},
]
"""In this order no scalar head, noise or teacher meets ``tensor``, which refuses them."""


def _name(row):
    return ",".join(v if v not in ON_OFF else k for k, v in row.items() if v != "off")


def test_all_pairs_are_there():
    """Of settings that go together, in a fifth more rows than the two longest factors have pairs."""
    for (a, its), (b, others) in combinations(FACTORS.items(), 2):
        for x, y in ((x, y) for x in its for y in others):
            there = any(row[a] == x and row[b] == y for row in ROWS)
            assert there == possible({a: x, b: y}), (a, x, b, y)
    assert all(map(possible, ROWS))
    assert len(ROWS) <= 1.2 * len(OBJECTIVES) * len(FACTORS["schedule"])


@pytest.fixture(scope="module")
def made(_tiny, finished_run, tmp_path_factory):
    """A spec, and a run of it that has what the members of the matrix begin with."""
    folder = tmp_path_factory.mktemp("matrix")
    spec = copy.deepcopy(_tiny)
    base = spec["stages"].pop("base")["train"]
    base |= {"budget": "1 steps", "evaluate": [], "precision": "fp32"}
    base["model"] |= {"layers": 1, "context": 64}
    gpt2 = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
    gpt2 |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.2)
    dropping = {"type": "causal-lm", "architecture": "gpt2", "config": gpt2}
    spec["stages"] |= {"plain": {"train": base}, "dropout": {"train": {**base, "model": dropping}}}
    shutil.copytree(finished_run / "corpus", folder / "runs" / "tiny" / "corpus")
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    assert run_spec(load_spec(file), folder / "runs", Process(), as_json=True) == 0
    words = "cat dog mouse bird fish cow".split()
    rows = [(f"{i} {w}:", f" a {w}" * (1 + i % 3), f" no {w}") for i in range(12) for w in words]
    records = {
        "completion": [{"prompt": p, "completion": good} for p, good, _ in rows],
        "preference": [{"prompt": p, "chosen": good, "rejected": bad} for p, good, bad in rows],
        "prompt": [{"prompt": p} for p, _, _ in rows],
    }
    for schema, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{schema}.jsonl").write_text(text, encoding="utf-8")
    return spec, folder


def member(made, row, **train):
    """The spec of a member of the matrix."""
    spec, folder = copy.deepcopy(made[0]), made[1]
    recomputed = row["activation_checkpointing"]
    on = {name for name, value in row.items() if value == "on"}
    objective, bases = row["objective"], ["plain", "dropout"]
    base, other = bases if row["model"] != "dropout" else bases[::-1]
    model = {"type": "stage", "stage": base}
    if row["model"] == "lora":
        model["adapter"] = {"type": "lora", "r": 2, "dropout": 0.2}
    minimised = {k: other if v == "other" else v for k, v in OBJECTIVES[objective].items()}
    if minimised["type"] not in ("next-token", "sft"):  # the others have it off by default
        minimised["dropout"] = row["model"] != "plain"
    schedule = {"type": row["schedule"], "warmup": "2 steps"}
    # So strict that it skips steps and rolls back; norms of episodes are further apart.
    factor = 3.0 if RECORDS.get(objective) == "prompt" else 1.2
    guard = {"type": "spike-guard", "factor": factor, "window": 4, "patience": 2}
    guard["max_rollbacks"] = 50
    learned = {
        "data": "corpus",
        "model": model,
        "objective": minimised,
        "optimizer": {"type": row["optimizer"], "lr": 3e-3, "schedule": schedule},
        "precision": row["precision"],
        "batch": {"tokens": 128, "sequence": 32},
        "budget": f"{STEPS} steps",
        "ema": 0.5 if "ema" in on else None,
        "clip": 0.1 if "clip" in on else None,
        "activation_checkpointing": recomputed != "off" and recomputed,
        "compile": "compile" in on,
        "checkpoint": {"every": "2 steps", "keep": 4, "background": "background" in on},
        "callbacks": [guard] if "guard" in on else [],
    }
    if objective in RECORDS:
        schema = RECORDS[objective]
        file = str(folder / f"{schema}.jsonl")
        learned["data"] = {"type": "files", "paths": [file], "records": schema}
        learned["batch"] = {"examples": 4, "sequence": 32}
    if "micro" in on:
        learned["batch"]["micro_tokens"] = 96  # three rows, then one
    if "ramp" in on:
        learned["batch"]["ramp"] = {"every": "2 steps", "most": 256}
    if "freeze" in on:
        learned["freeze"] = ["*.embed_tokens.*" if base == "plain" else "*.wte.*"]
    if "evaluate" in on:
        learned["evaluate"] = [{"type": EVALUATORS[objective], "every": "2 steps", "limit": 2}]
        learned |= {"holdout": 0.2} if objective in RECORDS else {}
    spec["stages"]["learned"] = {"train": {**learned, **train}}
    return spec


@pytest.fixture
def go(made, write_spec, tmp_path):
    """Begins a member under a name, or goes on with it: its folder."""

    def go(spec, name, run):
        folder = tmp_path / name / "tiny"
        if not folder.exists():
            shutil.copytree(made[1] / "runs" / "tiny", folder)
        run(write_spec(spec), folder.parent)
        return folder

    return go


def _here(spec, runs, status=0):
    torch._dynamo.reset() if "torch._dynamo" in sys.modules else None
    loaded = load_spec(spec)
    assert run_spec(loaded, runs, Process(), as_json=True, only="learned") == status


def _compare(whole, broken):
    """Weights of the model and of its companions."""
    files = sorted(whole.glob("learned/*/model.safetensors"))
    assert files
    for file in files:
        a, b = load_file(file), load_file(broken / file.relative_to(whole))
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []


def _stopped_and_resumed(made, go, monkeypatch, row):
    spec = member(made, row)
    compute, calls = Replicated.forward_backward, []

    def interrupted(self, micro_batches, counts):
        calls.append(self)
        if len(calls) == STOPPED:
            signal.raise_signal(signal.SIGTERM)
        return compute(self, micro_batches, counts)

    whole = go(spec, "whole", _here)
    with monkeypatch.context() as patch:
        patch.setattr(Replicated, "forward_backward", interrupted)
        broken = go(spec, "broken", partial(_here, status=1))
    go(spec, "broken", _here)
    lines = (broken / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for event in map(json.loads, lines) if event.get("stage") == "learned"]
    assert [e["event"] for e in events if e["event"] in ("stopped", "resumed")] == [
        "stopped",
        "resumed",
    ]
    _compare(whole, broken)


@pytest.mark.parametrize("row", SAMPLE, ids=_name)
def test_stopped_and_resumed_the_weights_are_bit_identical(made, go, monkeypatch, row):
    """A run of every objective, each with other settings."""
    _stopped_and_resumed(made, go, monkeypatch, row)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
@pytest.mark.parametrize("row", REST, ids=_name)
def test_every_pair_of_settings_resumes_exactly(made, go, monkeypatch, row):
    """The rest of the matrix."""
    _stopped_and_resumed(made, go, monkeypatch, row)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("row", "strategy"),
    [(row, STRATEGIES[n % len(STRATEGIES)]) for n, row in enumerate(SAMPLE)],
    ids=lambda value: value.get("type") or _name(value),
)
def test_two_processes_resume_exactly(made, go, engine, row, strategy):
    """With a smaller budget first, so schedules are of those that no budget changes."""
    row = {**row, "schedule": "inverse-sqrt" if row["schedule"] == "inverse-sqrt" else "constant"}
    if strategy["type"] == "mesh":
        row["optimizer"] = "adamw"  # others need whole matrices
    if strategy.get("tensor"):
        row["model"] = "plain"  # whose parts it knows
    spec = member(made, row, strategy=strategy)
    for name in ("plain", "dropout"):  # which are made already
        spec["stages"][name]["train"]["strategy"] = {"type": "ddp"}

    def together(file, runs, *arguments):
        engine("run", file, "--runs", runs, "--nproc", 2, "--stage", "learned", *arguments)

    whole = go(spec, "whole", together)
    budget = f"stages.learned.train.budget={STOPPED} steps"
    broken = go(spec, "broken", lambda file, runs: together(file, runs, "--set", budget))
    go(spec, "broken", together)
    _compare(whole, broken)
