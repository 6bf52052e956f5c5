"""Whole runs of the objectives that learn from the model's own answers: resumed, killed, accumulated,
on two processes, on real prompts."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from engine_tools.verify_resume import verify_resume
from safetensors.torch import load_file
from support import online_stages as online
from support.internals import Artifact, Process, run_spec

from engine import load_spec

STRATEGIES = [
    {"type": "ddp"},  # broken off in between, and then as a whole
    {"type": "ddp"},
    {"type": "mesh", "shard": 2},
    {"type": "zero", "stage": 2},
    {"type": "zero", "stage": 3},
    {"type": "ddp"},  # begun by one process
]


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
    for name, fields in online.OBJECTIVES.items():
        learned = {"model": "chat", "objective": {"type": name, **fields}}
        made["stages"][name] = {"train": {**judge, **learned, "budget": f"{online.STEPS} steps"}}
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
        online.copy_made(runs / "whole" / "tiny", runs / name / "tiny")
        loaded = load_spec(file, overrides=overrides)
        assert run_spec(loaded, runs / name, Process(), as_json=True, only=only) == 0
        return runs / name / "tiny"

    go("whole")
    return go


@pytest.fixture(scope="module")
def whole(run):
    """The unbroken run."""
    return run("whole")


def _all(*assignments):
    """Overrides of every objective's stage."""
    return [f"stages.{name}.train.{a}" for name in online.OBJECTIVES for a in assignments]


@pytest.mark.covers(*(f"objective/{name}.passes" for name in online.OBJECTIVES))
@pytest.mark.covers(*(f"objective/{name}.mini_batches" for name in online.OBJECTIVES))
def test_a_round_is_gone_through(whole):
    """In ``passes`` times ``mini_batches`` optimizer steps; every pass sees all of it, in an order of
    its own."""
    for name, objective in online.OBJECTIVES.items():
        steps, tables = online.steps(whole, name), online.tables(whole, name)
        assert len(steps) == online.STEPS
        assert len(tables) == 2, name
        assert {len(rows) for rows in tables} == {online.PROMPTS * objective.get("answers", 1)}
        assert len({e["reward"] for e in steps[: online.A_ROUND]}) == 1
        assert steps[0]["reward"] != steps[online.A_ROUND]["reward"] == steps[-1]["reward"]
        ends = [0, *(e["tokens"] for e in steps[: online.A_ROUND])]
        sizes = np.diff(ends).reshape(objective["passes"], objective["mini_batches"])
        assert len(set(sizes.sum(1))) == 1, name
        assert len(set(sizes[:, 0])) > 1, name
        assert len({e["loss"] for e in steps}) == online.STEPS


def test_metrics_are_means_over_the_table(whole):
    """And the multiplier and the penalty move by them: ln λ by lr·λ·(cost − limit), β towards the
    target. In the first round the policy is the reference."""
    for name in online.OBJECTIVES:
        rounds = [online.steps(whole, name)[at] for at in (0, online.A_ROUND)]
        for told, rows in zip(rounds, online.tables(whole, name), strict=True):
            means = {"kl": "kl", "ended": "ended", "reward/taste": "reward/taste"}
            means |= {"cost/words": "cost/words"} if name == "ppo" else {}
            for figure, column in means.items():
                expected = np.mean([row[column] for row in rows])
                assert told[figure] == pytest.approx(expected, abs=1e-4), (name, figure)
        assert rounds[0]["kl"] == 0 != rounds[1]["kl"]
    first, second = (online.steps(whole, "ppo")[at] for at in (0, online.A_ROUND))
    before, after = first["lambda/words"], second["lambda/words"]
    excess = first["cost/words"] - online.BRIEF["limit"]
    assert math.log(after / before) == pytest.approx(online.BRIEF["lr"] * before * excess)
    error = min(max(first["kl"] / online.ADAPTIVE["target"] - 1, -0.2), 0.2)
    factor = 1 + error * online.PROMPTS / online.ADAPTIVE["horizon"]
    assert second["kl_penalty"] == pytest.approx(first["kl_penalty"] * factor)


def test_a_step_waits_for_the_device_once(run, waits):
    """And where critics learn beside the policy once more, to know whether all may step."""
    run("waited")
    assert waits == {"tolist": online.STEPS * (len(online.OBJECTIVES) + 1)}


def test_resumed_in_the_middle_of_a_round(run, whole, tmp_path):
    """Bit by bit the unbroken run: policy, critics, optimizers, metrics with multiplier and penalty,
    and the tables of rollouts."""
    run("broken", _all("budget=4 steps"))
    broken = run("broken")
    for name in online.OBJECTIVES:
        assert online.steps(broken, name) == online.steps(whole, name)
        assert online.tables(broken, name) == online.tables(whole, name)
        online.same_tensors(online.weights(broken, name), online.weights(whole, name))
        online.same_tensors(online.kept(broken, name, tmp_path), online.kept(whole, name, tmp_path))
    parts = {path.split("/")[0] for path in online.weights(whole, "ppo")}
    assert parts == {"final", "value", "value-words"}
    kept = online.kept(whole, "ppo", tmp_path)
    assert sum("exp_avg_sq" in path for path in kept) > 2 * len(online.weights(whole, "ppo")) / 3


def test_accumulated_and_recomputed(run, whole):
    """In pieces of one row, with activations computed again: the curves of whole batches, to 1e-4."""
    pieces = run("pieces", _all("batch.micro_tokens=256", "activation_checkpointing=true"))
    online.same_curves(pieces, whole, 1e-4)


def test_an_average_does_not_answer(run, whole):
    """With `ema`, the weights that learn are asked, not their average, which is what is exported."""
    averaged = run("averaged", _all("ema=0.9"))
    for name in online.OBJECTIVES:
        assert online.steps(averaged, name) == online.steps(whole, name)
        weights, others = online.weights(averaged, name), online.weights(whole, name)
        assert not any(torch.equal(weights[n], others[n]) for n in weights)


@pytest.mark.covers("Train.clip")
def test_the_gradient_is_clipped(run, whole):
    """Policy and critics do not move where no norm is allowed; its norm is told as it was before."""
    fields = {"clip": "1e-12", "budget": "2 steps", "optimizer.weight_decay": "0"}
    clipped = run("clipped", [f"stages.ppo.train.{k}={v}" for k, v in fields.items()], only="ppo")
    norms = [online.steps(folder, "ppo")[0]["grad_norm"] for folder in (clipped, whole)]
    assert norms[0] == norms[1] > 0.1
    start = load_file(clipped / "chat/final/model.safetensors")
    for folder, moves in ((clipped, False), (whole, True)):
        weights = online.weights(folder, "ppo")
        for part in ("final", "value", "value-words"):
            names = [name for name in start if f"{part}/{name}" in weights]
            far = max(float((weights[f"{part}/{n}"] - start[n]).abs().max()) for n in names)
            assert (far > 1e-3) if moves else (far < 1e-5), part


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
    install_here(online.UPSET)
    fields = {
        "callbacks": "[{type: upset}]",
        "checkpoint": "{every: 1 steps, keep: 8, background: false}",
    }
    overrides = [f"stages.ppo.train.{name}={value}" for name, value in fields.items()]
    upset = run("upset", ["plugins=[upset]", *overrides], only="ppo")
    lines = map(json.loads, (upset / "events.jsonl").read_text(encoding="utf-8").splitlines())
    (rolled,) = [e for e in lines if e["event"] == "rolled_back"]
    assert (rolled["step"], rolled["excluded"]) == (2, [[0, online.PROMPTS]])
    rewards = [e["reward"] for e in online.steps(upset, "ppo")]
    assert rewards == rewards[:1] * 3 + rewards[-1:] * (online.STEPS - 2)
    assert rewards[0] != rewards[-1]


def test_two_processes_train_as_one(spec, run, whole, write_spec, warm, tmp_path, service, animals):
    """Under `ddp`, `mesh` and `zero`, also beside an average of the weights and from the middle of
    a round of one process: the curves of `single`, to 1e-3; broken off there, the weights of the
    unbroken run, bit by bit. On both, rewards see the row of each answer."""
    folders = [tmp_path / "shared" / str(number) / "tiny" for number in range(len(STRATEGIES))]
    shutil.copytree(run("begun", _all("budget=4 steps", "ema=0.9")), folders[-1])
    for folder in folders[:-1]:
        online.copy_made(whole, folder)
    script, spec = Path(__file__).parents[1] / "two_ranks.py", copy.deepcopy(spec)
    for name in online.OBJECTIVES:
        spec["stages"][name]["train"]["ema"] = 0.9
    asks = {"rewards": [{"type": "http", "url": service.url}], "answers": 2, "answer_tokens": 2}
    rows = {**spec["stages"]["grpo"]["train"], "objective": {"type": "grpo", **asks}}
    spec["stages"]["rows"] = {"train": {**rows, "budget": "2 steps"}}
    strategies = map(json.dumps, STRATEGIES)
    warm.ranks(2, [script, write_spec(spec), tmp_path / "shared", *strategies])
    for folder in folders:
        online.same_curves(folder, whole, 1e-3)
    for name in online.OBJECTIVES:
        online.same_tensors(online.weights(folders[0], name), online.weights(folders[1], name))
        assert online.tables(folders[0], name) == online.tables(folders[1], name)
    by_prompt = {row["prompt"]: row for row in animals}
    assert len(service.questions) == len(STRATEGIES) * 2 * 2  # every round from both
    for asked in service.questions:
        assert len(asked["rows"]) == online.PROMPTS
        for prompt, row in zip(asked["prompts"], asked["rows"], strict=True):
            assert {"prompt": prompt, **row} == by_prompt[prompt]


def test_killed_in_the_middle_of_a_round(spec, write_spec):
    """SIGKILL to a run of `ppo`: resumed, policy and critics are those of the unbroken run."""
    few = copy.deepcopy(spec)
    few["stages"] = {name: few["stages"][name] for name in ("corpus", "base", "ppo")}
    train = few["stages"]["ppo"]["train"]
    train |= {"model": "base", "objective": {**train["objective"], "rewards": [{"type": "length"}]}}
    assert verify_resume(write_spec(few), [], steps=online.STEPS, kills=1, nproc=1) == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("nproc", [1, 2])
def test_killed_at_random_moments(spec, write_spec, nproc):
    """SIGKILL to whole runs, in every stage."""
    strategy = "single" if nproc == 1 else "ddp"
    names = (*online.MADE[1:], *online.OBJECTIVES)
    chosen = [f"stages.{name}.train.strategy={strategy}" for name in names]
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
    steps, tables = (
        online.steps(run.folder, "learned"),
        online.tables(run.folder, "learned"),
    )
    asked = Counter(row["prompt"] for table in tables for row in table)
    assert set(asked.values()) == {8 if kind == "rloo" else 1}
    assert len(asked) == 2 * online.PROMPTS
    assert asked.keys() <= {row["prompt"] for row in rows}
    for step, table in zip(steps[::2], tables, strict=True):
        assert all(row["reward/length"] == len(row["answer"].split()) for row in table)
        assert step["reward"] == pytest.approx(np.mean([row["reward/length"] for row in table]))
        assert step["kl"] == pytest.approx(np.mean([row["kl"] for row in table]), abs=1e-3)
    assert steps[0]["kl"] == 0 != steps[-1]["kl"]
