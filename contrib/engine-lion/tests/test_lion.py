"""Lion is the paper's, is set by its fields, and trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from engine.testing import (
    FinishedRun,
    StandAloneContext,
    check_component,
    check_plugin,
    check_readme,
    run_spec,
    train_tiny,
)

FOLDER = Path(__file__).parents[1]


def test_the_plugin_is_declared_as_the_engine_wants_it():
    """Light imports, described fields, valid defaults."""
    check_plugin("lion")


def test_the_readme_tells_of_every_field():
    """Its reference is what the engine would write."""
    check_readme(FOLDER / "README.md")


def test_the_optimizer_keeps_its_contract():
    """Groups, skipped steps, scaled gradients, exact resume, no more state than it tells of."""
    check_component("optimizer", {"type": "lion"})


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.5, 0.8)])
@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_steps_are_those_of_algorithm_2(betas, decay):
    """Seven steps in float64 against numpy, to rounding: lr, decay and both betas count."""
    lr, rng = 0.03, np.random.default_rng(0)
    theta, momentum = rng.normal(size=(4, 3)), np.zeros((4, 3))
    weight = torch.nn.Parameter(torch.tensor(theta))
    optimizer = _build({"lr": lr, "weight_decay": decay, "betas": betas}, {"weight": weight})
    for _ in range(7):
        gradient = rng.normal(size=theta.shape)
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        update = np.sign(betas[0] * momentum + (1 - betas[0]) * gradient)
        theta = theta - lr * (update + decay * theta)
        momentum = betas[1] * momentum + (1 - betas[1]) * gradient
    np.testing.assert_allclose(weight.detach().numpy(), theta, rtol=1e-12)


def test_vectors_do_not_decay():
    """Without a gradient's pull, matrices shrink by lr · decay and norms stay."""
    named = {"w": torch.nn.Parameter(torch.ones(2, 2)), "norm": torch.nn.Parameter(torch.ones(2))}
    optimizer = _build({"lr": 0.1, "weight_decay": 0.5}, named)
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(named["w"], torch.full((2, 2), 0.95))
    assert torch.equal(named["norm"], torch.ones(2))


def test_groups_change_rate_and_decay_by_name():
    """A group's lr_scale and weight_decay stand in the optimizer's group, where strategies look."""
    named = {n: torch.nn.Parameter(torch.ones(2, 2)) for n in ("model.embed", "model.mlp")}
    group = {"match": "*embed", "lr_scale": 0.5, "weight_decay": 0.0}
    optimizer = _build({"weight_decay": 1.0, "groups": [group]}, named)
    told = {id(g["params"][0]): (g["lr_scale"], g["weight_decay"]) for g in optimizer.param_groups}
    assert told == {id(named["model.embed"]): (0.5, 0.0), id(named["model.mlp"]): (1.0, 1.0)}


def test_a_run_learns_with_it_along_its_schedule(tmp_path):
    """A spec that names it trains: the loss falls, the rate is lr times the schedule's factor."""
    schedule = {"type": "warmup-stable-decay", "warmup": "4 steps", "decay": 0.5}
    run = train_tiny(
        tmp_path,
        plugins=["lion"],
        optimizer={"type": "lion", "lr": 3e-3, "schedule": schedule},
        budget="12 steps",
    )
    assert run.losses[-1] < run.losses[0] - 0.5
    factors = [1e-3, *(n / 4 for n in (1, 2, 3)), 1, 1, 1, *(n / 6 for n in (5, 4, 3, 2, 1))]
    assert _rates(run) == pytest.approx([3e-3 * factor for factor in factors])


def test_the_example_runs(tmp_path):
    """And learns from its first steps on."""
    run = run_spec(FOLDER / "example.yaml", tmp_path, "stages.base.train.budget=8 steps")
    assert run.losses[-1] < run.losses[0]


def _build(settings, named):
    make = StandAloneContext().build("optimizer", {"type": "lion", **settings})
    return make(list(named.items()))


def _rates(run: FinishedRun) -> list[float]:
    return [event["lr"] for event in run.events if event["event"] == "step"]
