"""A spec's stages for the objectives that learn from the model's own answers, and what their runs leave
behind."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

STEPS, A_ROUND, PROMPTS = 8, 6, 8
TASTE = {"type": "stage", "stage": "judge", "name": "taste", "weight": 2.0}
BRIEF = {"reward": {"type": "length", "name": "words"}, "limit": 1.5, "lr": 0.5}
ADAPTIVE = {"target": 0.5, "horizon": 40}
ONLINE = {"rewards": [TASTE], "answer_tokens": 10, "kl": 0.2}
OBJECTIVES = {
    "ppo": {
        **ONLINE,
        "rewards": [TASTE, {"type": "length", "weight": -0.1}],
        "constraints": [BRIEF],
        "adaptive_kl": ADAPTIVE,
        "passes": 3,
        "mini_batches": 2,
    },
    "rloo": {**ONLINE, "answers": 3, "passes": 2, "mini_batches": 3},
    "grpo": {**ONLINE, "answers": 2, "passes": 3, "mini_batches": 2},
}
MADE = ("corpus", "base", "chat", "judge")
UPSET = {
    "engine_upset/__init__.py": "",
    "engine_upset/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_callbacks():
    return [Component("upset", "engine_upset.once:Upset", "engine_upset.once:build", "Once.")]
""",
    "engine_upset/once.py": """
from engine import Callback, Config, RollBack

class Upset(Config):
    pass

class Once(Callback):
    done = False

    def step_finished(self, event):
        if event["step"] == 3 and not self.done:
            self.done = True
            return RollBack("once", 1)

def build(config, context):
    return Once()
""",
}
"""Rolls back in the middle of the first round."""
NOISY = ("time", "tokens_per_second", "utilisation", "memory")


def copy_made(whole, folder):
    for name in MADE:
        if (whole / name).exists() and not (folder / name).exists():
            shutil.copytree(whole / name, folder / name)


def steps(run, name):
    """A stage's events, without what is of the moment."""
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [e for e in map(json.loads, lines) if e["event"] == "step" and e["stage"] == name]
    return [{key: value for key, value in e.items() if key not in NOISY} for e in events]


def tables(run, name):
    """Rows of rollouts, round by round."""
    files = sorted((run / name / "rollouts").iterdir())
    return [[json.loads(row) for row in f.read_text("utf-8").splitlines()] for f in files]


def weights(run, name):
    """Of the model and of its critics."""
    files = sorted((run / name).glob("*/model.safetensors"))
    return {f"{f.parent.name}/{k}": w for f in files for k, w in load_file(f).items()}


def kept(run, name, tmp_path):
    """The tensors of the last checkpoint: weights and optimizers' states."""
    (folder,) = (run / name / "checkpoints").glob(f"step-*{STEPS}/tensors")
    dcp_to_torch_save(folder, tmp_path / "kept.pt")
    tensors = {}

    def walk(path, value):
        if isinstance(value, dict):
            for key, part in value.items():
                walk(f"{path}/{key}", part)
        elif isinstance(value, torch.Tensor):
            tensors[path] = value

    walk("", torch.load(tmp_path / "kept.pt", weights_only=False))
    return tensors


def same_tensors(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def same_curves(ours, theirs, tolerance):
    for name in OBJECTIVES:
        curves = [steps(run, name) for run in (ours, theirs)]
        assert len(curves[0]) == STEPS
        for own, other in zip(*curves, strict=True):
            wanted = {k: pytest.approx(v, rel=tolerance, abs=tolerance) for k, v in other.items()
                      if isinstance(v, float)}  # fmt: skip
            assert {k: own[k] for k in wanted} == wanted, (name, own["step"])
