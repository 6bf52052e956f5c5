"""Whole runs of the objectives that learn from the model's own answers: resumed, killed, accumulated,
on two processes, on real prompts."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from engine.artifact import Artifact
from engine.launch import Process
from engine.session import run_spec
from engine.spec import load_spec
from engine.verify import verify_resume

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
STRATEGIES = [
    {"type": "ddp"},  # broken off in between, and then as a whole
    {"type": "ddp"},
    {"type": "mesh", "shard": 2},
    {"type": "zero", "stage": 2},
    {"type": "zero", "stage": 3},
    {"type": "ddp"},  # begun by one process
]
UPSET = {
    "engine_upset/__init__.py": "",
    "engine_upset/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_callbacks():
    return [Component("upset", "engine_upset.once:Upset", "engine_upset.once:build", "Once.")]
""",
    "engine_upset/once.py": """
from engine import BaseCallback, Config, RollBack

class Upset(Config):
    pass

class Once(BaseCallback):
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
NOISY = ("time", "tokens_per_second")


@pytest.fixture(scope="module")
def spec(_tiny, add_stage, animals, tmp_path_factory):
    """The tiny spec, a model that has learnt to answer, a judge of answers, and a stage for every
    objective."""
    made, folder = copy.deepcopy(_tiny), tmp_path_factory.mktemp("rows")
    made["stages"]["base"]["train"]["evaluate"] = []
    texts = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in animals]
    add_stage(made, folder, {"type": "sft", "packing": False}, texts)
    chat = made["stages"].pop("learned")["train"]
    chat |= {"budget": "40 steps", "optimizer": {"type": "adamw", "lr": 1e-2}}
    add_stage(made, folder, {"type": "reward"}, animals)
    judge = made["stages"].pop("learned")["train"]
    made["stages"] |= {"chat": {"train": chat}, "judge": {"train": judge}}
    for name, fields in OBJECTIVES.items():
        learned = {"model": "chat", "objective": {"type": name, **fields}}
        made["stages"][name] = {"train": {**judge, **learned, "budget": f"{STEPS} steps"}}
    return made


@pytest.fixture(scope="module")
def run(spec, finished_run, tmp_path_factory):
    """Runs the spec under a name, and gives the run's folder; what the objectives stand on is made
    once."""
    runs = tmp_path_factory.mktemp("online")
    file = runs / "spec.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    shutil.copytree(finished_run / "corpus", runs / "whole" / "tiny" / "corpus")

    def go(name, overrides=(), only=None):
        _copy_made(runs / "whole" / "tiny", runs / name / "tiny")
        loaded = load_spec(file, overrides=overrides)
        assert run_spec(loaded, runs / name, Process(), as_json=True, only=only) == 0
        return runs / name / "tiny"

    go("whole")
    return go


@pytest.fixture(scope="module")
def whole(run):
    """The unbroken run."""
    return run("whole")


def _copy_made(whole, folder):
    for name in MADE:
        if (whole / name).exists() and not (folder / name).exists():
            shutil.copytree(whole / name, folder / name)


def _steps(run, name):
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [e for e in map(json.loads, lines) if e["event"] == "step" and e["stage"] == name]
    return [{key: value for key, value in e.items() if key not in NOISY} for e in events]


def _tables(run, name):
    files = sorted((run / name / "rollouts").iterdir())
    return [[json.loads(row) for row in f.read_text("utf-8").splitlines()] for f in files]


def _weights(run, name):
    """Of the model and of its critics."""
    files = sorted((run / name).glob("*/model.safetensors"))
    return {f"{f.parent.name}/{k}": w for f in files for k, w in load_file(f).items()}


def _kept(run, name, tmp_path):
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


def _same_tensors(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def _same_curves(ours, theirs, tolerance):
    for name in OBJECTIVES:
        curves = [_steps(run, name) for run in (ours, theirs)]
        assert len(curves[0]) == STEPS
        for own, other in zip(*curves, strict=True):
            wanted = {k: pytest.approx(v, rel=tolerance, abs=tolerance) for k, v in other.items()
                      if isinstance(v, float)}  # fmt: skip
            assert {k: own[k] for k in wanted} == wanted, (name, own["step"])


@pytest.mark.covers(
    *(f"objective/{kind}.{field}" for kind in OBJECTIVES for field in ("passes", "mini_batches"))
)
def test_a_round_is_gone_through(whole):
    """In ``passes`` times ``mini_batches`` optimizer steps; every pass sees all of it, in an order of
    its own."""
    for name, objective in OBJECTIVES.items():
        steps, tables = _steps(whole, name), _tables(whole, name)
        assert len(steps) == STEPS
        assert len(tables) == 2, name
        assert {len(rows) for rows in tables} == {PROMPTS * objective.get("answers", 1)}
        assert len({e["reward"] for e in steps[:A_ROUND]}) == 1
        assert steps[0]["reward"] != steps[A_ROUND]["reward"] == steps[-1]["reward"]
        ends = [0, *(e["tokens"] for e in steps[:A_ROUND])]
        sizes = np.diff(ends).reshape(objective["passes"], objective["mini_batches"])
        assert len(set(sizes.sum(1))) == 1, name
        assert len(set(sizes[:, 0])) > 1, name
        assert len({e["loss"] for e in steps}) == STEPS


def test_metrics_are_means_over_the_table(whole):
    """And the multiplier and the penalty move by them: ln λ by lr·λ·(cost − limit), β towards the
    target. In the first round the policy is the reference."""
    for name in OBJECTIVES:
        rounds = [_steps(whole, name)[at] for at in (0, A_ROUND)]
        for told, rows in zip(rounds, _tables(whole, name), strict=True):
            means = {"kl": "kl", "ended": "ended", "reward/taste": "taste"}
            means |= {"cost/words": "cost/words"} if name == "ppo" else {}
            for figure, column in means.items():
                expected = np.mean([row[column] for row in rows])
                assert told[figure] == pytest.approx(expected, abs=1e-4), (name, figure)
        assert rounds[0]["kl"] == 0 != rounds[1]["kl"]
    first, second = (_steps(whole, "ppo")[at] for at in (0, A_ROUND))
    moved = BRIEF["lr"] * first["lambda/words"] * (first["cost/words"] - BRIEF["limit"])
    assert math.log(second["lambda/words"] / first["lambda/words"]) == pytest.approx(moved)
    error = min(max(first["kl"] / ADAPTIVE["target"] - 1, -0.2), 0.2)
    factor = 1 + error * PROMPTS / ADAPTIVE["horizon"]
    assert second["kl_penalty"] == pytest.approx(first["kl_penalty"] * factor)


def test_resumed_in_the_middle_of_a_round(run, whole, tmp_path):
    """Bit by bit the unbroken run: policy, critics, optimizers, metrics with multiplier and penalty,
    and the tables of rollouts."""
    run("broken", [f"stages.{name}.train.budget=4 steps" for name in OBJECTIVES])
    broken = run("broken")
    for name in OBJECTIVES:
        assert _steps(broken, name) == _steps(whole, name)
        assert _tables(broken, name) == _tables(whole, name)
        _same_tensors(_weights(broken, name), _weights(whole, name))
        _same_tensors(_kept(broken, name, tmp_path), _kept(whole, name, tmp_path))
    parts = {path.split("/")[0] for path in _weights(whole, "ppo")}
    assert parts == {"final", "value", "value-words"}
    kept = _kept(whole, "ppo", tmp_path)
    assert sum("exp_avg_sq" in path for path in kept) > 2 * len(_weights(whole, "ppo")) / 3


def test_accumulated_and_recomputed(run, whole):
    """In pieces of one row, with activations computed again: the curves of whole batches, to 1e-4."""
    fields = ("batch.micro_tokens=256", "activation_checkpointing=true")
    pieces = run("pieces", [f"stages.{name}.train.{f}" for name in OBJECTIVES for f in fields])
    _same_curves(pieces, whole, 1e-4)


def test_an_average_does_not_answer(run, whole):
    """With `ema`, the weights that learn are asked, not their average, which is what is exported."""
    averaged = run("averaged", [f"stages.{name}.train.ema=0.9" for name in OBJECTIVES])
    for name in OBJECTIVES:
        assert _steps(averaged, name) == _steps(whole, name)
        weights, others = _weights(averaged, name), _weights(whole, name)
        assert not any(torch.equal(weights[n], others[n]) for n in weights)


@pytest.mark.covers("Train.clip")
def test_the_gradient_is_clipped(run, whole):
    """Policy and critics do not move where no norm is allowed; its norm is told as it was before."""
    fields = {"clip": "1e-12", "budget": "2 steps", "optimizer.weight_decay": "0"}
    clipped = run("clipped", [f"stages.ppo.train.{k}={v}" for k, v in fields.items()], only="ppo")
    assert _steps(clipped, "ppo")[0]["grad_norm"] == _steps(whole, "ppo")[0]["grad_norm"] > 0.1
    moved, start = _weights(clipped, "ppo"), load_file(clipped / "chat/final/model.safetensors")
    for name, weight in start.items():
        torch.testing.assert_close(moved[f"final/{name}"], weight, rtol=0, atol=1e-5)
        part = f"value/{name}"
        torch.testing.assert_close(moved.get(part, weight), weight, rtol=0, atol=1e-5)
    free = _weights(whole, "ppo")
    assert any(
        (free[f"final/{name}"] - weight).abs().max() > 1e-3 for name, weight in start.items()
    )


def test_critics_of_an_adapted_model(run):
    """They have no adapter: what is written of them opens as well, and has learnt."""
    lora = "stages.ppo.train.model={type: stage, stage: chat, adapter: {type: lora, r: 4}}"
    adapted = run("adapted", [lora], only="ppo")
    start = load_file(adapted / "chat/final/model.safetensors")
    for part in ("final", "value", "value-words"):
        learnt = Artifact(adapted / "ppo" / part).model().state_dict()
        assert any(not torch.equal(learnt[n], start[n]) for n in learnt.keys() & start.keys())


def test_a_roll_back_leaves_the_round_out(run, install_here):
    """Also from the middle of it: what follows is a round of other prompts."""
    install_here(UPSET)
    fields = {
        "callbacks": "[{type: upset}]",
        "checkpoint": "{every: 1 steps, keep: 8, background: false}",
    }
    overrides = [f"stages.ppo.train.{name}={value}" for name, value in fields.items()]
    upset = run("upset", ["plugins=[upset]", *overrides], only="ppo")
    lines = map(json.loads, (upset / "events.jsonl").read_text(encoding="utf-8").splitlines())
    (rolled,) = [e for e in lines if e["event"] == "rolled_back"]
    assert (rolled["step"], rolled["excluded"]) == (2, [[0, PROMPTS]])
    first, *_, last = (e["reward"] for e in _steps(upset, "ppo"))
    rewards = [e["reward"] for e in _steps(upset, "ppo")]
    assert rewards == [first] * 3 + [last] * (STEPS - 2)
    assert first != last


def test_two_processes_train_as_one(spec, run, whole, write_spec, tmp_path):
    """Under `ddp`, `mesh` and `zero`, also beside an average of the weights and from the middle of
    a round of one process: the curves of `single`, to 1e-3; broken off there, the weights of the
    unbroken run, bit by bit."""
    folders = [tmp_path / "shared" / str(number) / "tiny" for number in range(len(STRATEGIES))]
    fields = ("budget=4 steps", "ema=0.9")
    begun = run("begun", [f"stages.{name}.train.{f}" for name in OBJECTIVES for f in fields])
    shutil.copytree(begun, folders[-1])
    for folder in folders[:-1]:
        _copy_made(whole, folder)
    script, spec = Path(__file__).with_name("two_ranks.py"), copy.deepcopy(spec)
    for name in OBJECTIVES:
        spec["stages"][name]["train"]["ema"] = 0.9
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(write_spec(spec))]
    command += [str(tmp_path / "shared"), *map(json.dumps, STRATEGIES)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for folder in folders:
        _same_curves(folder, whole, 1e-3)
    for name in OBJECTIVES:
        _same_tensors(_weights(folders[0], name), _weights(folders[1], name))
        assert _tables(folders[0], name) == _tables(folders[1], name)


def test_killed_in_the_middle_of_a_round(spec, write_spec):
    """SIGKILL to a run of `ppo`: resumed, policy and critics are those of the unbroken run."""
    few = copy.deepcopy(spec)
    few["stages"] = {name: few["stages"][name] for name in ("corpus", "base", "ppo")}
    train = few["stages"]["ppo"]["train"]
    train |= {"model": "base", "objective": {**train["objective"], "rewards": [{"type": "length"}]}}
    assert verify_resume(write_spec(few), [], steps=STEPS, kills=1, nproc=1) == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("nproc", [1, 2])
def test_killed_at_random_moments(spec, write_spec, nproc):
    """SIGKILL to whole runs, in every stage."""
    strategy = "single" if nproc == 1 else "ddp"
    chosen = [f"stages.{name}.train.strategy={strategy}" for name in (*MADE[1:], *OBJECTIVES)]
    assert verify_resume(write_spec(spec), chosen, steps=20, kills=12, nproc=nproc) == 0


@pytest.mark.parametrize(("kind", "source"), [("rloo", "hh"), ("ppo", "self_instruct")])
def test_real_prompts_are_answered(stage, run_here, request, kind, source):
    """Each is in the table word for word, as often as it has answers, beside what these are worth; one
    that leaves no room is told."""
    rows = request.getfixturevalue(source)(150)
    fields = {"rewards": [{"type": "length"}], "answer_tokens": 24, "kl": 0.1, "passes": 2}
    run = run_here(stage({"type": kind, **fields}, rows))
    (told,) = [e for e in run.events("examples") if e["stage"] == "learned"]
    assert told["records"] == len(rows) == told["rows"] + sum(told["dropped"].values())
    assert list(told["dropped"]) == ["prompts leave no room for an answer"]
    steps, tables = _steps(run.folder, "learned"), _tables(run.folder, "learned")
    asked = Counter(row["prompt"] for table in tables for row in table)
    assert set(asked.values()) == {8 if kind == "rloo" else 1}
    assert len(asked) == 2 * PROMPTS
    assert asked.keys() <= {row["prompt"] for row in rows}
    for step, table in zip(steps[::2], tables, strict=True):
        assert all(row["length"] == len(row["answer"].split()) for row in table)
        assert step["reward"] == pytest.approx(np.mean([row["length"] for row in table]))
        assert step["kl"] == pytest.approx(np.mean([row["kl"] for row in table]), abs=1e-3)
    assert steps[0]["kl"] == 0 != steps[-1]["kl"]
