"""`trl-ppo` in a spec: what it trains, what each field changes, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_rlhf.config.trl_ppo import TrlPPO
from pydantic import ValidationError
from support import bandit, trl_bench
from transformers import AutoModelForSequenceClassification

from engine import SpecError, load_spec
from engine.modeling import with_scalar_head

pytest.importorskip("trl")

TRAIN = {
    "objective": {"type": "trl-ppo", "reward": "reward", "answer_tokens": 8, "passes": 2},
    "batch": {"examples": 8},
    "clip": None,
    "precision": "fp32",
    "evaluate": [],
}


@pytest.fixture
def spec(stage, animals):
    """The tiny spec, a reward stage, and one that trains by TRL."""
    made = stage({"type": "reward"}, animals)
    learned = made["stages"].pop("learned")["train"]
    aligned = {"budget": "8 steps", **learned, **TRAIN}
    made["stages"] |= {"reward": {"train": learned}, "aligned": {"train": aligned}}
    return made


def _steps(run):
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "step"]
    return [event for event in events if event["stage"] == "aligned"]


def test_a_run(spec, run_here):
    """A round is ``passes`` steps; policy and critic are artefacts; TRL's metrics are events."""
    spec["stages"]["aligned"]["train"]["budget"] = "8 steps"
    run = run_here(spec)
    assert run.status == 0
    events = _steps(run.folder)
    assert [event["step"] for event in events] == [2, 4, 6, 8]
    assert all(event["tokens"] > 0 for event in events)
    assert events[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert events[-1]["kl"] != pytest.approx(0.0, abs=1e-5)
    for name in ("loss", "loss/policy", "loss/value", "reward", "entropy", "episodes_per_second"):
        assert all(name in event for event in events), name
    before, after = run.weights("base"), run.weights("aligned")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    value = AutoModelForSequenceClassification.from_pretrained(run.folder / "aligned" / "value")
    assert value.config.num_labels == 1


def test_killed_it_begins_anew(spec, run_here, tmp_path):
    """It says so, and ends where a run ends that was not killed."""
    spec["stages"]["aligned"]["train"]["budget"] = "4 steps"
    whole = run_here(spec, runs="whole")
    (tmp_path / "broken" / "tiny" / "aligned" / "library").mkdir(parents=True)
    broken = run_here(spec, runs="broken")
    assert broken.status == whole.status == 0
    text = (broken.folder / "events.jsonl").read_text(encoding="utf-8")
    assert "cannot be resumed: training begins anew" in text
    ours, theirs = broken.weights("aligned"), whole.weights("aligned")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_two_processes(spec, write_spec, tmp_path):
    """Plain data parallelism: as many episodes a round in all, and one model."""
    spec["stages"]["aligned"]["train"]["budget"] = "4 steps"
    for name in ("base", "reward", "aligned"):
        spec["stages"][name]["train"]["strategy"] = {"type": "ddp"}
    command = [Path(sys.executable).with_name("engine"), "run", write_spec(spec), "--nproc", "2"]
    command += ["--runs", tmp_path / "runs", "--json"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    events = _steps(tmp_path / "runs" / "tiny")
    assert [event["step"] for event in events] == [2, 4]
    assert (tmp_path / "runs" / "tiny" / "aligned" / "value" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def learn(tmp_path_factory):
    """Two rounds of a short run on the bandit's model: the policy's weights, and what was logged."""

    def run(**fields):
        models = {
            "r": trl_bench.TableModel(bandit.REWARDS),
            "c": trl_bench.TableModel(bandit.COSTS),
            "other": bandit.policy(seed=5),
            "value": with_scalar_head(bandit.policy(seed=6), 6),
        }
        policy = bandit.policy()
        config = TrlPPO(**{"reward": "r", "answer_tokens": 3, "passes": 2, **fields})
        _, logged = trl_bench.train(
            config, policy, models, [[2, 2], [3, 2]] * 16, bandit.tokenizer(),
            tmp_path_factory.mktemp("trl"),
            rounds=2, episodes=16, lr=0.02,
        )  # fmt: skip
        return policy.state_dict(), logged

    return run


CHANGED = {
    "reward": "c",
    "kl": 0.5,
    "reference": "other",
    "temperature": 0.6,
    "answer_tokens": 2,
    "passes": 3,
    "mini_batches": 2,
    "clip": 1e-3,
    "missing_eos_penalty": 3.0,
    "value": "value",
    "value_clip": 1e-3,
    "gamma": 0.5,
    "gae_lambda": 0.0,
    "whiten_rewards": True,
}


@pytest.fixture(scope="module")
def plain(learn):
    """Without any of these; twice the same gives the same weights."""
    weights, again = learn()[0], learn()[0]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    return weights


@pytest.mark.parametrize("field", CHANGED)
@pytest.mark.covers(*(f"objective/trl-ppo.{field}" for field in CHANGED))
def test_every_field_changes_what_is_learnt(learn, plain, field):
    """Another value gives other weights."""
    other, _ = learn(**{field: CHANGED[field]})
    assert any(not torch.equal(plain[name], other[name]) for name in plain)


TURNS = (
    "{% for m in messages %}{{ m.content + ' ' }}"
    "{% if m.role == 'assistant' %}END{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(("end", "length"), [("e ", 1), ("<eos> ", 3), ("", 3)])
def test_answers_stop_at_the_templates_end_of_turn(tmp_path, end, length):
    """Which is not the tokenizer's EOS; that is the end where the template writes no special token. A
    policy that writes `e` and nothing else has then ended its turn, or never does."""
    words = bandit.tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["e"]})
    words.chat_template = TURNS.replace("END", end)
    policy = bandit.policy()
    policy.lm_head = torch.nn.Linear(16, len(bandit.TOKENS))
    policy.lm_head.bias.data[bandit.TOKENS.index("e")] = 40.0
    models = {"r": trl_bench.TableModel(bandit.REWARDS)}
    config = TrlPPO(reward="r", answer_tokens=3, passes=2, missing_eos_penalty=5.0)
    _, (logged,) = trl_bench.train(
        config, policy, models, [[2, 2]] * 8, words, tmp_path, rounds=1, episodes=8, lr=1e-6
    )
    assert logged["tokens"] == config.passes * 8 * (2 + length)
    penalty = 0.0 if length == 1 else 5.0
    assert logged["reward"] == pytest.approx(float(bandit.REWARDS[-1]) - penalty, abs=1e-4)


@pytest.mark.covers("objective/trl-ppo.value_weight")
def test_the_critics_loss_is_weighted(learn):
    """The critic shares nothing with the policy and Adam knows no scale, so it shows in the loss."""
    (_, one), (_, two) = learn(value_weight=0.1), learn(value_weight=0.2)
    assert two[0]["loss/value"] == pytest.approx(2 * one[0]["loss/value"], rel=1e-3)


@pytest.mark.covers("objective/trl-ppo.kl_estimator", "objective/ppo.kl_estimator")
def test_k3_in_the_reward_is_refused():
    """With the reason."""
    with pytest.raises(ValidationError, match="converges to another policy"):
        TrlPPO(reward="r", kl_estimator="k3")
    assert TrlPPO(reward="r", kl_estimator="k1").kl_estimator == "k1"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "checkpoint={every: 2 steps}",
            "trl-ppo writes no checkpoints; a stage that is killed starts again",
        ),
        (
            "evaluate=[{type: perplexity}]",
            "trl-ppo does not evaluate; name the model in an evaluate stage",
        ),
        ("callbacks=[{type: early-stop, metric: reward}]", "trl-ppo does not run callbacks"),
        ("ema=0.9", "trl-ppo keeps no moving average"),
        ("activation_checkpointing=full", "trl-ppo ignores gradient checkpointing"),
        ("clip=1.0", "TRL's PPO ignores max_grad_norm"),
        ("precision=bf16", "trl-ppo always computes in fp32"),
        ("compile=true", "trl-ppo does not compile"),
        ("strategy={type: mesh, shard: 2}", "trl-ppo only supports single and ddp"),
        ("strategy={type: zero, stage: 2}", "trl-ppo only supports single and ddp"),
        ("budget=1h", "trl-ppo counts episodes; use steps or epochs"),
        ("batch={examples: 8, micro_tokens: 64}", "merges mini-batches"),
        ("batch={tokens: 256}", "trl-ppo counts episodes; use batch.examples"),
        ("objective.mini_batches=3", "does not divide evenly into 3 mini-batches"),
        ("objective.whiten_rewards=true", None),
        ("batch.examples=4", None),
    ],
)
def test_what_trl_cannot_do_is_refused(spec, write_spec, setting, said):
    """Before anything runs, by the field and with the reason."""
    overrides = [f"stages.aligned.train.{setting}"]
    if said is None:
        load_spec(write_spec(spec), overrides=overrides)
        return
    with pytest.raises(SpecError, match=re.escape(said)):
        load_spec(write_spec(spec), overrides=overrides)


def test_whitening_wants_enough_episodes(spec, write_spec):
    """TRL's own limit: eight of a mini-batch on each process."""
    overrides = ["objective.whiten_rewards=true", "objective.mini_batches=2"]
    with pytest.raises(SpecError, match="TRL needs at least 8 episodes"):
        load_spec(write_spec(spec), overrides=[f"stages.aligned.train.{one}" for one in overrides])


def test_its_limits_are_named(spec, write_spec):
    """What cannot be refused, since no field asks for it, is said."""
    (warning,) = load_spec(write_spec(spec)).spec.stages["aligned"].train.objective.warnings()
    assert "clips no gradient" in warning
    assert "cannot be resumed" in warning
