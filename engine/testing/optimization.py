"""Checks that optimizers, schedules and strategies keep their contracts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from engine.contracts.amounts import Amount
from engine.contracts.batch import Batch
from engine.contracts.component_config import StrategyConfig
from engine.contracts.config import Config
from engine.contracts.optimizer import Progress
from engine.contracts.strategy import Setup
from engine.testing.standalone import (
    TINY_OBJECTIVE,
    TINY_OPTIMIZER,
    StandAloneContext,
    require,
    tiny_model,
)

_SHAPES = {
    "model.embed_tokens.weight": (96, 64),
    "model.layers.0.mlp.weight": (64, 128),
    "model.norm.weight": (64,),
}
_HIDDEN = {"model.embed_tokens.weight": False, "model.layers.0.mlp.weight": True}
_COUNTERS = 0.25
"""Extra numbers per parameter allowed in the state: steps, rows, columns and tables are small."""
_POINTS = 1000


def optimizer(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks groups, rates, skipping, scaled gradients, exact resume, and size of the state."""
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
    fresh, made = _Trial(new), _Trial(new)
    made.make_state()
    fresh.step(7)
    made.step(7)
    require(
        made.unlike(fresh) == [] and made.same_state(fresh),
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
    resumed = trial.copied()
    trial.step(6)
    resumed.step(6)
    require(
        trial.unlike(resumed) == [] and trial.same_state(resumed),
        "from its saved state the next step is the same to the bit",
    )
    for name, hidden in _HIDDEN.items():
        declared = config.state_floats(hidden=hidden)  # type: ignore[attr-defined]
        held = trial.state_floats(name)
        require(
            held <= declared + _COUNTERS,
            f"state_floats(hidden={hidden}) says {declared:g} numbers per parameter, not {held:g}",
        )


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
        generator = torch.Generator().manual_seed(seed)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        for parameter in self.parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
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
        values = [factor(point) for point in points]
        for point, value in zip(points, values, strict=True):
            require(
                math.isfinite(value) and 0 <= value <= 1 + 1e-9,
                f"a factor is between 0 and 1, not {value} at step {point.step} of {budget}",
            )
        require(max(values[:_POINTS]) > 0.99, f"the peak, 1, is reached within {budget}")
        reverse = [factor(point) for point in points[::-1]]
        require(reverse[::-1] == values, "the same progress always has the same factor")


def strategy(new: Callable[[], Any], config: StrategyConfig, context: StandAloneContext) -> None:
    """Checks accumulation, spikes, exact resume and export on one process, with built-in components."""
    require(config.check_processes(1) is None, "the kit checks it on one process")
    objective = context.build("objective", TINY_OBJECTIVE)
    examples = [
        example
        for record in context.held_out()
        for example in objective.encode(record, context.tokenizer(), 24)
    ][:6]
    whole = [objective.collate(examples)]
    parts = [objective.collate(examples[:2]), objective.collate(examples[2:])]

    def prepared() -> Any:
        built = new()
        made = context.build("optimizer", TINY_OPTIMIZER)
        built.prepare(Setup(tiny_model(context), made, objective))
        return built

    first, second = prepared(), prepared()
    require((first.data_rank, first.data_size) == (0, 1), "one process holds all the data")
    require(
        first.all_sum({"b": 2.0, "a": 1.0}) == {"b": 2.0, "a": 1.0},
        "all_sum over one rank is that rank's",
    )
    start = _weights(first)
    require(
        set(start) == set(tiny_model(context).state_dict()),
        "export names the weights as transformers does",
    )
    _train(first, whole)
    _train(second, parts)
    require(not _same(_weights(first), start), "a step changes the weights")
    require(
        _same(_weights(first), _weights(second), tolerance=1e-4),
        "accumulated over micro-batches, a step is that of one batch",
    )
    before = _weights(first)
    require(
        bool(_train(first, whole, spike_limit=0.0).skipped), "a norm above the limit is skipped"
    )
    require(_same(_weights(first), before), "a skipped step changes no weight")
    kept = copy.deepcopy(first.state())
    resumed = prepared()
    state = resumed.state()
    _fill(state, kept)
    resumed.load(state)
    _train(first, whole)
    _train(resumed, whole)
    require(
        _same(_weights(first), _weights(resumed)),
        "from its saved state the next step is the same to the bit",
    )
    with first.inference() as scored, torch.no_grad():
        require(not scored.training, "inference gives the model in evaluation mode")
        scored(input_ids=torch.arange(8)[None])
    require(scored.training, "after inference the model is in training mode again")
    _train(first, whole)


def _train(built: Any, batches: list[Batch], spike_limit: float = math.inf) -> Any:
    counts = {"loss": float(sum(batch.counts["loss"] for batch in batches))}
    sums = built.forward_backward(batches, counts)
    require(
        set(sums) == {"loss"} and bool(torch.isfinite(sums["loss"])),
        "forward_backward gives the objective's sums by term",
    )
    norm = float(built.gradient_norm())
    done = built.step(1e-2, 1.0, spike_limit)
    require(
        math.isclose(norm, float(done.grad_norm), rel_tol=1e-5),
        "gradient_norm gives the norm of the following step",
    )
    return done


def _weights(built: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in built.export()}


def _same(
    weights: Mapping[str, Tensor], others: Mapping[str, Tensor], tolerance: float = 0.0
) -> bool:
    return all(
        torch.allclose(weight, others[name], rtol=tolerance, atol=tolerance)
        for name, weight in weights.items()
    )


def _fill(state: dict[str, Any], kept: Mapping[str, Any]) -> None:
    """Loads a state as a checkpoint does: tensors in place, other values by assignment."""
    for name, value in kept.items():
        if isinstance(value, Mapping):
            _fill(state[name], value)
        elif torch.is_tensor(value):
            with torch.no_grad():
                state[name].copy_(value)
        else:
            state[name] = value
