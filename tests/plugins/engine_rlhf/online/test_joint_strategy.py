"""Models that learn in one stage: each gradient is told and limited by itself, and all step or none."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from engine_callbacks.config import SpikeGuard
from engine_callbacks.spike_guard import SpikeGuardCallback
from engine_rlhf.online.joint_strategy import JointStrategy
from engine_rlhf.online.rounds import Companion

from engine import Batch, Loss, Setup
from engine.testing import StandAloneContext

POLICY, CRITIC = 1.0, 100.0
"""Factors of the losses: the critic's gradient is so much longer."""


class Squares(Loss):
    """Squares of the hidden states, times what the batch says for this model."""

    def __init__(self, name: str) -> None:
        self._name = name

    def loss(self, hidden_BTD, head, batch):
        return {self._name: batch.targets[self._name] * hidden_BTD.square().sum()}


@pytest.fixture
def joint():
    """A policy and a critic under a guard, and a function that takes a step of given factors."""
    context = StandAloneContext()
    fields = {"hidden_size": 16, "layers": 1, "heads": 2, "context": 16}
    models = [context.build("model", {"type": "llama", **fields}) for _ in range(2)]
    guard = SpikeGuardCallback(SpikeGuard(window=4, factor=10))
    guard.stage_started("ppo", None, {"precision": "fp32"})
    single = partial(context.build, "strategy", {"type": "single"})
    companion = Companion(models[1], Squares("value"))
    strategy = JointStrategy(
        single(),
        {"value": (single(), companion)},
        lambda name: guard.spike_limits.get(name, math.inf),
    )
    strategy.prepare(
        Setup(
            model=models[0],
            optimizer=context.build("optimizer", {"type": "adamw", "lr": 1e-3}),
            objective=Squares("policy"),
        )
    )

    def step(policy: float = POLICY, value: float = CRITIC):
        places = torch.arange(8)[None]
        factors = {"policy": torch.tensor(policy), "value": torch.tensor(value)}
        batch = Batch({"input_ids": places, "position_ids": places}, factors, {}, 8)
        before = [torch.cat([p.flatten() for p in m.parameters()]).detach() for m in models]
        strategy.forward_backward([batch], {"policy": 8, "value": 8})
        done = strategy.step(1e-4, 1.0, guard.spike_limit)
        norms = {f"grad_norm/{n}": float(norm) for n, norm in done.companions.items()}
        skipped, norm = bool(done.skipped), float(done.grad_norm)
        event = {"step": 1, "loss": 1.0, "grad_norm": norm, "skipped": skipped, **norms}
        guard.step_finished(event)
        after = [torch.cat([p.flatten() for p in m.parameters()]).detach() for m in models]
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        return SimpleNamespace(
            skipped=skipped, moved=moved, norm=norm, critic=norms["grad_norm/value"]
        )

    return step


def test_norms_are_told_one_by_one(joint):
    """A critic's long gradient does not hide the policy's."""
    done = joint()
    assert done.moved == [True, True]
    assert joint(policy=3 * POLICY).norm == pytest.approx(3 * done.norm, rel=0.05)
    assert done.critic > 20 * done.norm


@pytest.mark.parametrize("spike", [{"policy": 50 * POLICY}, {"value": 50 * CRITIC}], ids=str)
@pytest.mark.parametrize("kind", ["finite", "nan"])
def test_all_skip_what_one_skips(joint, spike, kind):
    """A spike of either model, by its own limit, or a gradient that is not finite moves neither; the
    next step is as any other."""
    if kind == "finite":
        for _ in range(4):
            assert joint().moved == [True, True]
    else:
        spike = dict.fromkeys(spike, math.nan)
    done = joint(**spike)
    assert done.skipped
    assert done.moved == [False, False]
    assert joint().moved == [True, True]


def test_limits_are_kept_in_a_checkpoint():
    """Of every model, and of a checkpoint that has only one list of norms."""
    guard = SpikeGuardCallback(SpikeGuard(window=2))
    guard.stage_started("ppo", None, {"precision": "fp32"})
    event = {"step": 1, "loss": 1.0, "grad_norm": 1.0, "grad_norm/value": 50.0, "skipped": False}
    guard.step_finished(event)
    resumed, older = (SpikeGuardCallback(SpikeGuard(window=2)) for _ in range(2))
    resumed.load(guard.state())
    assert (resumed.spike_limit, dict(resumed.spike_limits)) == (10.0, {"value": 500.0})
    older.load({**guard.state(), "norms": [1.0]})
    assert (older.spike_limit, dict(older.spike_limits)) == (10.0, {})
