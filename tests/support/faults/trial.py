"""What an optimizer makes of parameters that follow fixed gradients."""

from __future__ import annotations

import copy

import torch

SHAPES = {"embed.weight": (8, 4), "layers.0.mlp.weight": (4, 4), "norm.weight": (4,)}


class Trial:
    """Parameters that follow fixed gradients."""

    def __init__(self, make, **settings):
        chance = torch.Generator().manual_seed(0)
        self.parameters = {
            n: torch.nn.Parameter(torch.randn(shape, generator=chance))
            for n, shape in SHAPES.items()
        }
        self.optimizer = make(**settings)(list(self.parameters.items()))

    def step(self, number, lr=0.1, scale=1.0, skipped=False):
        chance = torch.Generator().manual_seed(number)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        for p in self.parameters.values():
            p.grad = (p.detach() + torch.randn(p.shape, generator=chance)) * scale
        self.optimizer.grad_scale = torch.tensor(scale)
        self.optimizer.found_inf = torch.tensor(float(skipped))
        self.optimizer.step()

    def weights(self):
        return {name: p.detach().clone() for name, p in self.parameters.items()}


def trained(make, **settings):
    """Weights after 6 steps at a falling rate."""
    trial = Trial(make, **{"weight_decay": 0.1, **settings})
    for number in range(6):
        trial.step(number, lr=0.1 / (number + 1))
    return trial.weights()


def of_two_stages(make):
    """Weights of the second of two stages in one process."""
    trained(make)
    return trained(make)


def with_groups(make):
    """Weights where a part has a rate of its own."""
    return trained(make, groups=[{"match": "embed.*", "lr_scale": 0.1}])


def with_decay(make):
    """Weights at a stronger decay."""
    return trained(make, weight_decay=0.9)


def resumed(make):
    """Weights of a run that was killed after step 3."""
    first, second = Trial(make), Trial(make)
    for number in range(3):
        first.step(number)
    second.step(0, lr=0.0, skipped=True)
    for name, p in first.parameters.items():
        own = second.parameters[name]
        own.data.copy_(p.data)
        second.optimizer.state[own] = copy.deepcopy(first.optimizer.state[p])
    for number in range(3, 6):
        second.step(number)
    return second.weights()


def with_a_spike(make):
    """Weights where a step with NaN is skipped."""
    trial = Trial(make)
    for number in range(4):
        trial.step(number, scale=float("nan") if number == 2 else 1.0, skipped=number == 2)
    return trial.weights()


def in_fp16(make):
    """Weights with gradients that are scaled up."""
    trial = Trial(make)
    for number in range(4):
        trial.step(number, scale=512.0)
    return trial.weights()


def planned(make):
    """The memory of the state, and what a plan says of it."""
    trial = Trial(make)
    trial.step(0)
    held = {n: trial.optimizer.state[p] for n, p in trial.parameters.items()}
    floats = sum(t.numel() for s in held.values() for t in s.values() if t.dim())
    declared = make.config().state_floats(hidden=True)
    return [floats <= declared * sum(p.numel() for p in trial.parameters.values())]
