"""Faulty optimizers."""

from __future__ import annotations

import torch
from support.faults.fault import Planted
from support.faults.trial import (
    in_fp16,
    of_two_stages,
    planned,
    resumed,
    trained,
    with_a_spike,
    with_decay,
    with_groups,
)

from engine import OptimizerConfig
from engine.modeling import parameter_groups


class Momentum(OptimizerConfig):
    """Gradient descent with momentum and decoupled decay."""

    def state_floats(self, *, hidden):
        return 2


planted = Planted("optimizer", Momentum)


class Steps(torch.optim.Optimizer):
    """Right."""

    _step_supports_amp_scaling = True
    momentum, means = 0.9, ("mean",)

    def __init__(self, groups, lr):
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self):
        scale = getattr(self, "grad_scale", None)
        skipped = getattr(self, "found_inf", None)
        for group in self.param_groups:
            for p in group["params"]:
                if not self.state[p]:
                    means = {name: torch.zeros_like(p) for name in self.means}
                    self.state[p] = {"step": torch.zeros(()), **means}
                gradient = p.grad if scale is None else p.grad / scale
                if skipped is None or not skipped.bool():
                    self.update(p, gradient, group, self.state[p])

    def update(self, p, gradient, group, state):
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - self.momentum)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * state["mean"] / (1 - self.momentum ** state["step"]))


class Makes:
    """Right: makes the optimizer of named parameters."""

    cls = Steps

    def __init__(self, config, context):
        self.config = config

    def __call__(self, parameters):
        return self.cls(parameter_groups(self.config, parameters), lr=self.config.lr)


@planted.right
class Descends(Makes):
    """Right."""


@planted.right
class Adapts(Makes):
    """Right: steps as long for small gradients."""

    class cls(Steps):  # noqa: N801
        means = ("mean", "square")

        def update(self, p, gradient, group, state):
            state["square"].lerp_(gradient**2, 0.01)
            size = (state["square"] / (1 - 0.99 ** (state["step"] + 1))).sqrt()
            super().update(p, gradient / (size + 1e-6), group, state)


@planted.fault(trained, "at rate 0 nothing changes")
class RateOfTheSpec(Descends):
    """It steps at the spec's rate, whatever the schedule."""

    class cls(Steps):  # noqa: N801
        def update(self, p, gradient, group, state):
            super().update(p, gradient, {**group, "lr": self.defaults["lr"]}, state)


@planted.fault(with_groups, "a group of the spec with lr_scale 0")
class OneRateForAll(Descends):
    """Its groups all have the same rate."""

    def __call__(self, parameters):
        made = super().__call__(parameters)
        for group in made.param_groups:
            group["lr_scale"] = 1.0
        return made


@planted.fault(trained, "decays by the share", of=Adapts)
class CoupledDecay(Adapts):
    """Decay is added to the gradient, so it is as strong for small weights."""

    class cls(Adapts.cls):  # noqa: N801
        def update(self, p, gradient, group, state):
            decayed = gradient + group["weight_decay"] * p
            super().update(p, decayed, {**group, "weight_decay": 0.0}, state)


@planted.fault(trained, "model.norm.weight decays by the share 0")
class DecaysVectors(Descends):
    """Norms and biases decay as matrices do."""

    def __call__(self, parameters):
        made = super().__call__(parameters)
        for group in made.param_groups:
            group["weight_decay"] = self.config.weight_decay
        return made


@planted.fault(with_decay, "decays by the share")
class DecayOfItsOwn(Descends):
    """Its decay is 0.1, whatever the spec says."""

    class cls(Steps):  # noqa: N801
        def update(self, p, gradient, group, state):
            own = 0.1 if group["weight_decay"] else 0.0
            super().update(p, gradient, {**group, "weight_decay": own}, state)


@planted.fault(resumed, "from its saved state the next step is the same")
class CountsOutsideTheState(Descends):
    """Its step counter is not in the state."""

    class cls(Steps):  # noqa: N801
        calls = 0

        def update(self, p, gradient, group, state):
            self.calls += group["lr"] > 0
            super().update(p, gradient / (1 + 0.1 * self.calls), group, state)


@planted.fault(resumed, "from its saved state the next step is the same")
class MeansOutsideTheState(Descends):
    """Its means are in a dict of its own."""

    class cls(Steps):  # noqa: N801
        def update(self, p, gradient, group, state):
            own = self.__dict__.setdefault("own_means", {})
            mean = own.setdefault(id(p), torch.zeros_like(p)).lerp_(gradient, 0.1)
            super().update(p, mean.clone(), group, state)


@planted.fault(with_a_spike, "a skipped first step")
class StepsWithNan(Descends):
    """It does not look at found_inf."""

    class cls(Steps):  # noqa: N801
        def step(self):
            self.found_inf = None
            super().step()


@planted.fault(with_a_spike, "a skipped first step leaves no trace")
class CountsSkippedSteps(Descends):
    """A skipped step counts as a step."""

    class cls(Steps):  # noqa: N801
        def step(self):
            super().step()
            for state in self.state.values():
                state["step"] += self.found_inf


@planted.fault(in_fp16, "gradients are divided by grad_scale")
class ScaledGradients(Descends):
    """It does not divide by grad_scale."""

    class cls(Steps):  # noqa: N801
        def step(self):
            self.grad_scale = None
            super().step()


@planted.fault(planned, "state_floats")
class SaysItKeepsNothing(Momentum):
    """It declares no state."""

    def state_floats(self, *, hidden):
        return 0


@planted.fault(trained, "every parameter is in exactly one group")
class LeavesOutTheLast(Descends):
    """The last parameter is in no group."""

    def __call__(self, parameters):
        return super().__call__(parameters[:-1])


@planted.fault(resumed, "a skipped step makes all of the state")
class LateState(Descends):
    """A part of the state is made at the first step that counts, where nothing can be loaded into."""

    class cls(Steps):  # noqa: N801
        def update(self, p, gradient, group, state):
            if group["lr"] and "square" not in state:
                state["square"] = torch.zeros_like(p)
            if "square" in state:
                state["square"] += gradient**2
                gradient = gradient / (1 + state["square"])
            super().update(p, gradient, group, state)


@planted.fault(of_two_stages, "the same gradients give the same step")
class NoisySteps(Descends):
    """It adds noise that no seed repeats."""

    class cls(Steps):  # noqa: N801
        chance = torch.Generator().manual_seed(0)

        def update(self, p, gradient, group, state):
            noise = torch.randn(p.shape, generator=self.chance)
            super().update(p, gradient + 0.1 * noise, group, state)


@planted.fault(trained, "a step goes down the gradient")
class Climbs(Descends):
    """It goes up the gradient."""

    class cls(Steps):  # noqa: N801
        def update(self, p, gradient, group, state):
            super().update(p, -gradient, group, state)
