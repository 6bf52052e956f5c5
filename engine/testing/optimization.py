"""Checks that optimizers and schedules keep their contracts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.contracts.amounts import Amount
from engine.contracts.component_config import ParameterGroup
from engine.contracts.config import Config
from engine.contracts.optimizer import Progress
from engine.testing.requirements import require, works
from engine.testing.standalone import StandAloneContext

_SHAPES = {
    "model.embed_tokens.weight": (96, 64),
    "model.layers.0.mlp.weight": (64, 128),
    "model.norm.weight": (64,),
}
_HIDDEN = {"model.embed_tokens.weight": False, "model.layers.0.mlp.weight": True}
_COUNTERS = 0.25
"""Extra numbers per parameter allowed in the state: steps, rows, columns and tables are small."""
_POINTS = 1000
_RATE, _DECAY = 1e-2, 0.5


def optimizer(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks groups, rates, decay, skipping, scaled gradients, exact resume, and size of the state."""
    trial = _Trial(new)
    every = [id(p) for group in trial.optimizer.param_groups for p in group["params"]]
    require(
        sorted(every) == sorted(id(p) for p in trial.parameters.values()),
        "every parameter is in exactly one group",
    )
    require(
        all("lr_scale" in group for group in trial.optimizer.param_groups),
        "every group carries lr_scale (engine.parameter_groups sees to it)",
    )
    trial.make_state()
    require(trial.unlike(_Trial(new)) == [], "a skipped first step changes no parameter")
    one, same = _Trial(new), _Trial(new)
    for other in (one, same):
        other.make_state()
        other.step(7)
    require(one.unlike(same) == [], "the same gradients give the same step, to the bit")
    fresh = _Trial(new)
    fresh.step(7)
    require(
        one.unlike(fresh) == [] and one.same_state(fresh),
        "a skipped first step leaves no trace in the state",
    )
    for number in range(3):
        before = trial.copied()
        trial.step(number)
        require(trial.finite(), "parameters stay finite")
        require(len(trial.unlike(before)) == len(_SHAPES), "a step changes every parameter")
    before = trial.copied()
    trial.step(3, lr=0.0)
    require(trial.unlike(before) == [], "at rate 0 nothing changes, decay included")
    _check_resumed(trial, 6)
    if trial.takes_decision:
        before = trial.copied()
        trial.step(4, scale=math.nan, skipped=True)
        require(
            trial.unlike(before) == [] and trial.same_state(before),
            "where found_inf is 1 neither parameters nor state change, even by NaN",
        )
        scaled = trial.copied()
        scaled.step(5, scale=1024.0)
        trial.step(5)
        require(trial.unlike(scaled, tolerance=1e-5) == [], "gradients are divided by grad_scale")
        _check_resumed(trial, 8)
    _check_settings(config, context)
    for name, hidden in _HIDDEN.items():
        declared = config.state_floats(hidden=hidden)  # type: ignore[attr-defined]
        held = trial.state_floats(name)
        require(
            held <= declared + _COUNTERS,
            f"state_floats(hidden={hidden}) says {declared:g} numbers per parameter, not {held:g}",
        )


def _check_resumed(trial: _Trial, number: int) -> None:
    resumed = trial.copied()
    trial.step(number)
    resumed.step(number)
    require(
        trial.unlike(resumed) == [] and trial.same_state(resumed),
        "from its saved state the next step is the same to the bit",
    )


def _check_settings(config: Config, context: StandAloneContext) -> None:
    """Checks, by a first step each, the direction, the decay and the groups that a spec asks for."""

    def stepped(**settings: Any) -> dict[str, Tensor]:
        altered = config.model_copy(update=settings)
        trial = _Trial(lambda: context.component("optimizer", altered))
        trial.make_state()
        trial.step(1, lr=_RATE)
        return {n: p.detach().double() for n, p in trial.parameters.items()}

    start = {n: p.detach().double() for n, p in _Trial(lambda: _no_optimizer).parameters.items()}
    plain, decayed = stepped(weight_decay=0.0), stepped(weight_decay=_DECAY)
    for name, weight in plain.items():
        downhill = float(((start[name] - weight) * gradient_of(name, 1).double()).sum())
        require(downhill > 0, f"a step goes down the gradient, which that of {name} does not")
        found = (weight - decayed[name]).mean() / start[name].mean()
        expected = _RATE * _DECAY if weight.dim() > 1 else 0.0
        require(
            math.isclose(float(found), expected, rel_tol=0.05, abs_tol=1e-5),
            f"at rate {_RATE} and weight_decay {_DECAY}, {name} decays by the share {expected:g}, not "
            f"{float(found):.3g}: use engine.modeling.parameter_groups",
        )
    matched = next(iter(_SHAPES))
    group = ParameterGroup(match=matched, lr_scale=0.0)
    slow = stepped(groups=(group,))
    require(
        torch.equal(slow[matched], start[matched]),
        f"a group of the spec with lr_scale 0 stays as it is, which {matched} does not",
    )


def _no_optimizer(parameters: Any) -> Any:
    return None


def gradient_of(name: str, seed: int) -> Tensor:
    """The gradient of a parameter at the step of this seed."""
    generator = torch.Generator().manual_seed(seed)
    found = {n: torch.randn(shape, generator=generator) for n, shape in _SHAPES.items()}
    return found[name]


class _Trial:
    """An optimizer over three parameters, stepped as strategies step it."""

    def __init__(self, new: Callable[[], Any]) -> None:
        generator = torch.Generator().manual_seed(0)
        self._new = new
        self.parameters = {
            name: torch.nn.Parameter(torch.randn(shape, generator=generator))
            for name, shape in _SHAPES.items()
        }
        self.optimizer = new()(list(self.parameters.items()))
        self.takes_decision = getattr(self.optimizer, "_step_supports_amp_scaling", False)

    def step(self, seed: int, lr: float = 1e-2, scale: float = 1.0, skipped: bool = False) -> None:
        """One step with the gradients of this seed, times ``scale``."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        for name, parameter in self.parameters.items():
            parameter.grad = gradient_of(name, seed) * scale
        if self.takes_decision:
            self.optimizer.grad_scale = torch.tensor(scale)
            self.optimizer.found_inf = torch.tensor(float(skipped))
        self.optimizer.step()

    def state_floats(self, name: str) -> float:
        """Size of the state, in float32 numbers per number of the parameter."""
        parameter = self.parameters[name]
        held = self.optimizer.state[parameter].values()
        return sum(t.nbytes for t in held if torch.is_tensor(t)) / parameter.nbytes

    def make_state(self) -> None:
        """Makes the state by a first step that is skipped, or has neither rate nor gradient."""
        self.step(0, lr=0.0, scale=0.0 if not self.takes_decision else 1.0, skipped=True)
        if not self.takes_decision:
            for state in self.optimizer.state.values():
                if "step" in state:
                    state["step"] *= 0  # a number or a tensor

    def copied(self) -> _Trial:
        """A copy, with the same parameters and this one's state loaded in place."""
        other = _Trial(self._new)
        other.make_state()
        for name, parameter in self.parameters.items():
            other.parameters[name].data.copy_(parameter.data)
            state = self.optimizer.state[parameter]
            loaded = other.optimizer.state[other.parameters[name]]
            require(
                set(state) == set(loaded),
                f"a skipped step makes all of the state, not only {set(loaded)}",
            )
            for key, value in state.items():
                if torch.is_tensor(value):
                    loaded[key].copy_(value)
                else:
                    loaded[key] = copy.deepcopy(value)
        return other

    def unlike(self, other: _Trial, tolerance: float = 0.0) -> list[str]:
        """Names of the parameters that differ."""
        return [
            name
            for name, parameter in self.parameters.items()
            if not torch.allclose(parameter, other.parameters[name], rtol=tolerance, atol=tolerance)
        ]

    def same_state(self, other: _Trial) -> bool:
        """Whether every entry of the state is the same."""
        return all(
            torch.equal(torch.as_tensor(value), torch.as_tensor(other_value))
            for name, parameter in self.parameters.items()
            for value, other_value in zip(
                self.optimizer.state[parameter].values(),
                other.optimizer.state[other.parameters[name]].values(),
                strict=True,
            )
        )

    def finite(self) -> bool:
        """Whether all parameters are finite."""
        return all(bool(p.isfinite().all()) for p in self.parameters.values())


def schedule(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks that factors are between 0 and 1, reach 1, and depend on the progress alone."""
    factor = new()
    first: list[float] = []
    for budget in (
        Amount(_POINTS, "steps"),
        Amount(1e6, "tokens"),
        Amount(3, "epochs"),
        Amount(60, "seconds"),
    ):
        points = [
            Progress(step, step * 1000, 3 * step / _POINTS, 60 * step / _POINTS, budget)
            for step in range(_POINTS * 3 // 2)
        ]
        values = [works("every progress has a factor", partial(factor, point)) for point in points]
        for point, value in zip(points, values, strict=True):
            require(
                math.isfinite(value) and 0 <= value <= 1 + 1e-9,
                f"a factor is between 0 and 1, not {value} at step {point.step} of {budget}",
            )
        require(max(values[:_POINTS]) > 0.99, f"the peak, 1, is reached within {budget}")
        reverse = [factor(point) for point in points[::-1]]
        require(reverse[::-1] == values, "the same progress always has the same factor")
        middle = points[_POINTS // 2 :]
        resumed = new()
        require(
            [resumed(point) for point in middle] == values[_POINTS // 2 :],
            "built anew in the middle of a stage, as in a resumed run, it gives the same factors",
        )
        first = first or values
        for point, value, other in zip(points, values, first, strict=True):
            require(
                math.isclose(value, other, rel_tol=1e-6, abs_tol=1e-9),
                f"a budget of {budget} is reached where one of {_POINTS} steps is, but at step "
                f"{point.step} the factor is {value:.6g}, not {other:.6g}: use progress.reached",
            )
