"""FLOPs of rounds of short answers, in the log and in the plan, against torch's own counter."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from engine_plan.forecast import forecasts
from engine_plan.machine import Machine
from torch.utils.flop_counter import FlopCounterMode

from engine import load_spec

SUMS = {"type": "arithmetic", "digits": 2}
MODEL = {"type": "llama", "hidden_size": 96, "layers": 3, "heads": 4, "context": 64}
REWARD = {"rewards": [{"type": "length"}], "answer_tokens": 12}
OBJECTIVES = {
    "grpo": {"type": "grpo", **REWARD, "answers": 6, "passes": 2, "mini_batches": 2},
    "rloo": {"type": "rloo", **REWARD, "answers": 4, "kl": 0.1},
    "ppo": {"type": "ppo", **REWARD, "kl": 0.1, "passes": 2, "mini_batches": 2},
}


LEARNING = {
    "optimizer": {"type": "adamw", "lr": 1e-5},
    "precision": "fp32",
    "batch": {"examples": 8},
}
SPEC: dict[str, Any] = {
    "engine": 1,
    "name": "rounds",
    "seed": 3,
    "stages": {
        "sums": {
            "prepare": {
                "sources": [{**SUMS, "records": "text", "questions": 200}],
                "tokenizer": {"type": "bytes"},
            }
        },
        "base": {
            "train": {
                **LEARNING,
                "data": "sums",
                "model": MODEL,
                "objective": {"type": "next-token"},
                "budget": "1 steps",
            }
        },
    },
}


def test_flops_of_rounds_are_what_torch_counts(run_here, write_spec):
    """Prompts, answers, the critic and all passes that score them, to a tenth: torch leaves fused
    attention out, and prompts have a digit less than they may have. Rows are four times as long."""
    spec = copy.deepcopy(SPEC)
    run_here(spec)
    for kind, objective in OBJECTIVES.items():
        body = {"data": {**SUMS, "records": "prompt"}, "model": "base", "budget": "4 steps"}
        spec["stages"][kind] = {"train": {**LEARNING, **body, "objective": objective}}
        with FlopCounterMode(display=False) as counter:
            run = run_here(spec)
        (told,) = run.events("training", stage=kind)
        assert min(run.steps("answer_tokens", stage=kind)) > 11.5  # hardly any ended early
        found = forecasts(load_spec(write_spec(spec)).situation(), Machine("cpu", "", 1e12))[kind]
        counted = pytest.approx(counter.get_total_flops(), rel=0.1)
        assert (told["flops"], found.flops) == (counted, counted)
