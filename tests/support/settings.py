"""Settings that touch a step, in rows that together hold every pair of them; and a spec of each row."""

from __future__ import annotations

import copy
from itertools import combinations

from support.pairwise import covering

STEPS = 6
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


def name_of(row):
    return ",".join(v if v not in ON_OFF else k for k, v in row.items() if v != "off")


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
