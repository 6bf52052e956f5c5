"""Whole runs of the objectives that learn from the model's own answers."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

STEPS, A_ROUND = 8, 6
TASTE = {"type": "stage", "stage": "judge", "name": "taste", "weight": 2.0}
BRIEF = {"reward": {"type": "length", "name": "words"}, "limit": 1.5, "lr": 0.5}
ONLINE = {"rewards": [TASTE], "answer_tokens": 10}
OBJECTIVES = {
    "ppo": {
        **ONLINE,
        "rewards": [TASTE, {"type": "length", "weight": -0.1}],
        "constraints": [BRIEF],
        "adaptive_kl": {"target": 0.5, "horizon": 40},
        "kl": 0.2,
        "passes": 3,
        "mini_batches": 2,
    },
    "rloo": {**ONLINE, "kl": 0.2, "answers": 3, "passes": 2, "mini_batches": 3},
    "grpo": {**ONLINE, "kl": 0.2, "answers": 2, "passes": 3, "mini_batches": 2},
}


@pytest.fixture
def spec(stage, animals):
    """The tiny spec, a model that has learnt to answer, a judge of answers, and a stage for every
    objective."""
    texts = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in animals]
    made = stage({"type": "sft", "packing": False}, texts)
    made["stages"]["base"]["train"]["evaluate"] = []
    chat = made["stages"].pop("learned")["train"]
    chat |= {"budget": "40 steps", "optimizer": {"type": "adamw", "lr": 1e-2}}
    judge = stage({"type": "reward"}, animals)["stages"].pop("learned")["train"]
    made["stages"] |= {"chat": {"train": chat}, "judge": {"train": judge}}
    for name, fields in OBJECTIVES.items():
        learned = {"model": "chat", "objective": {"type": name, **fields}}
        made["stages"][name] = {"train": {**judge, **learned, "budget": f"{STEPS} steps"}}
    return made


def _steps(run, name):
    return [e for e in run.events("step") if e["stage"] == name]


def _rows(run, name):
    files = sorted((run.folder / name / "rollouts").iterdir())
    return [[json.loads(line) for line in f.read_text("utf-8").splitlines()] for f in files]


@pytest.mark.covers(
    *(f"objective/{kind}.{field}" for kind in OBJECTIVES for field in ("passes", "mini_batches"))
)
def test_a_round_is_gone_through(spec, run_here):
    """In ``passes`` times ``mini_batches`` optimizer steps; every pass sees all of it."""
    run = run_here(spec)
    for name, objective in OBJECTIVES.items():
        steps, rounds = _steps(run, name), _rows(run, name)
        assert len(steps) == STEPS
        assert len(rounds) == 2, name
        assert {len(rows) for rows in rounds} == {8 * objective.get("answers", 1)}
        assert len({e["reward"] for e in steps[:A_ROUND]}) == 1
        assert steps[0]["reward"] != steps[A_ROUND]["reward"] == steps[-1]["reward"]
        ends = [0, *(e["tokens"] for e in steps[:A_ROUND])][:: objective["mini_batches"]]
        assert len(ends) == objective["passes"] + 1
        assert len({b - a for a, b in pairwise(ends)}) == 1, name
