"""What each train stage of a spec will need of every rank, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from engine.accelerators import ACCELERATORS
from engine.activations import RECOMPUTED, Scores
from engine.compose import Composer
from engine.config import Amount, Config, StrategyConfig
from engine.estimate import (
    WIDTHS,
    Estimate,
    Work,
    estimate,
    parameters,
    saved_bytes,
)
from engine.layout import Beside, Layout, ModelShape
from engine.machine import Machine
from engine.plan import SEQUENCE, micro_rows
from engine.plugins import Plugins
from engine.precision import AUTO, resolved
from engine.products import Precision
from engine.shapes import Stages, model_of, shape_of
from engine.spec import Loaded, Train
from engine.speeds import Sample

_KEPT_BESIDE = 1
"""Checkpoints beside those that are kept: the oldest goes only when the newest is whole."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A strategy, how it would share the work, what each rank would need, and if it was chosen
    from several ``why``."""

    config: StrategyConfig
    layout: Layout
    estimate: Estimate
    fits: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a train stage will need.

    ``memory`` is what a rank has, in bytes, ``disk`` bytes of checkpoints and of the final model,
    ``step_tokens`` those of a step. What only the data can tell, as a budget of epochs does, or the
    speed of a device that is not known, is None. Where only a part of the parameters is trained the
    figures are upper bounds: ``whole`` is False.
    """

    stage: str
    chosen: Candidate
    shape: ModelShape
    work: Work
    memory: float
    machine: Machine
    budget: Amount
    step_tokens: int
    disk: float
    whole: bool

    @property
    def step_seconds(self) -> float | None:
        """Of a step: measured where that was not done before."""
        work = self.work
        sample = Sample(self.shape, work.rows, work.sequence, work.scores, work.precision)
        speeds = self.machine.speeds(sample)
        return None if speeds is None else self.chosen.estimate.seconds(speeds, self.machine.links)

    @property
    def steps(self) -> float | None:
        """Of the budget."""
        unit, value = self.budget.unit, self.budget.value
        if unit == "epochs":
            return None
        seconds = self.step_seconds if unit == "seconds" else None
        per_step = {"steps": 1, "tokens": self.step_tokens, "seconds": seconds}[unit]
        return math.ceil(value / per_step) if per_step else None

    @property
    def tokens(self) -> float | None:
        """Of the whole training."""
        return None if self.steps is None else self.steps * self.step_tokens

    @property
    def seconds(self) -> float | None:
        """Of the whole training."""
        if self.steps is None or self.step_seconds is None:
            return None
        return self.steps * self.step_seconds

    @property
    def parameters(self) -> int:
        """Of the model."""
        return parameters(self.shape)

    @property
    def fits(self) -> bool:
        """Whether a rank has as much memory as it needs, buffers included."""
        return self.chosen.fits

    @property
    def flops(self) -> float | None:
        """Of the whole training."""
        return None if self.steps is None else self.steps * self.chosen.estimate.flops


def forecasts(loaded: Loaded, processes: int, machine: Machine) -> dict[str, Forecast | None]:
    """By train stage, in the order in which they run; None for a model whose size is not known."""
    names = [name for name in loaded.spec.order if loaded.spec.stages[name].train]
    return {name: forecast(loaded, name, processes, machine) for name in names}


def forecast(
    loaded: Loaded, name: str, processes: int, machine: Machine, train: Train | None = None
) -> Forecast | None:
    """Of one stage, or of what it would be as ``train``."""
    stages = loaded.spec.stages
    shape, model = shape_of(stages, name), model_of(stages, name)
    if shape is None or model is None:
        return None
    train = train or stages[name].train
    assert train is not None
    precision = _precision(train, machine)
    beside = _beside(stages, train, shape, precision)
    if beside is None:
        return None
    frozen, companions = beside
    work = replace(
        _work(
            train,
            shape,
            train.row_length(model) or SEQUENCE,
            precision,
            model.scores(machine.device),
            machine.device,
        ),
        frozen=frozen,
        companions=companions,
    )
    chosen = choose(train, work, processes, machine, loaded.plugins)
    work = divided(work, train, chosen.layout)
    written = sum(map(parameters, (shape, *companions)))
    kept = train.checkpoint.keep + _KEPT_BESIDE + bool(train.evaluate)
    return Forecast(
        stage=name,
        chosen=chosen,
        shape=shape,
        work=work,
        memory=machine.memory,
        machine=machine,
        budget=train.budget,
        step_tokens=train.batch.in_tokens(work.sequence),
        disk=kept * saved_bytes(work, Layout()) + 4 * written,
        whole=not train.freeze and getattr(train.model, "adapter", None) is None,
    )


def choose(
    train: Train, work: Work, processes: int, machine: Machine, plugins: Plugins
) -> Candidate:
    """The stage's strategy, or the one that it takes from all that are installed."""
    strategy: Any = train.strategy
    if strategy.chooses:
        several = candidates(train, work, processes, machine, plugins)
        chosen: tuple[Candidate, str] | None = strategy.choice(several)
        if chosen is not None:
            return replace(chosen[0], why=chosen[1])
    return _candidate(strategy, train, work, processes, machine)


def candidates(
    train: Train, work: Work, processes: int, machine: Machine, plugins: Plugins
) -> list[Candidate]:
    """What the installed strategies suggest for so many processes, those that work, the least
    traffic and waiting first."""
    found = []
    for strategy in _suggested(plugins, processes):
        optimizer: Any = train.optimizer
        possible = (
            strategy.check_processes(processes) is None
            and strategy.check_model(work.shape, processes) is None
            and strategy.check_train(train, processes) is None
            and (optimizer.elementwise or strategy.whole_matrices)
        )
        if possible:
            found.append(_candidate(strategy, train, work, processes, machine))
    return sorted(found, key=lambda c: c.estimate.cost(machine))


def divided(work: Work, train: Train, layout: Layout) -> Work:
    """With the micro-batches that each rank gets: of no more rows than it has, and a pipeline as
    many as it has stages, where rows allow."""
    tokens = train.batch.in_tokens(work.sequence)
    rows = max(1, math.ceil(tokens / work.sequence / layout.samples_over))
    most = micro_rows(train.batch.micro_tokens, work.sequence)
    most = min(most, max(1, rows // layout.pipeline))
    return replace(work, rows=most, micro_batches=math.ceil(rows / most))


def plain(config: Config) -> dict[str, Any]:
    """A component as a spec would say it: its type, then what differs from the defaults."""
    fields = config.model_dump(mode="json", exclude_defaults=True)
    return {"type": fields.pop("type"), **fields}


def size(number: float) -> str:
    """Bytes, for people: ``5.1 GB``."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f} B"


def _precision(train: Train, machine: Machine) -> Precision:
    """Of the stage's products on this machine: where ``auto`` stands, what it would choose there."""
    known = ACCELERATORS.get(machine.name)
    if train.precision == AUTO and known is not None:
        return "bf16" if known.bf16 else "fp16"
    return resolved(train.precision, machine.device)


def _work(
    train: Train,
    shape: ModelShape,
    sequence: int,
    precision: Precision,
    scores: Scores,
    device: str,
) -> Work:
    optimizer: Any = train.optimizer
    floats = (optimizer.state_floats(hidden=True), optimizer.state_floats(hidden=False))
    return Work(
        shape=shape,
        precision=precision,
        rows=1,
        sequence=sequence,
        micro_batches=1,
        device=device,
        scores=scores,
        recompute=RECOMPUTED[train.activation_checkpointing],
        offload=train.offload_activations and device != "cpu",
        state_floats=floats,
        averaged=train.ema is not None,
        staged=train.checkpoint.background and device == "cpu",
    )


def _beside(
    stages: Stages, train: Train, own: ModelShape, precision: Precision
) -> tuple[float, tuple[ModelShape, ...]] | None:
    """Bytes of models that do not learn, and the sizes of those that do beside the stage's; None where
    a size is not known."""
    objective: Any = train.objective
    beside: Beside = objective.beside()
    kinds = (beside.frozen, beside.asked, beside.trained)
    named = {stage: own if stage is None else shape_of(stages, stage) for stage in chain(*kinds)}
    known = {stage: shape for stage, shape in named.items() if shape is not None}
    if len(known) < len(named):
        return None
    widths = (WIDTHS[precision].weight, 4)
    frozen = sum(
        width * parameters(known[stage])
        for width, some in zip(widths, kinds, strict=False)
        for stage in some
    )
    # A scalar head in place of the vocabulary's: what is tied has no further matrix.
    return frozen, tuple(replace(known[stage], tied=True) for stage in beside.trained)


def _candidate(
    strategy: StrategyConfig, train: Train, work: Work, processes: int, machine: Machine
) -> Candidate:
    layout = strategy.layout(processes)
    needs = estimate(divided(work, train, layout), layout)
    return Candidate(strategy, layout, needs, needs.memory.total <= machine.memory)


def _suggested(plugins: Plugins, processes: int) -> Iterator[StrategyConfig]:
    composer = Composer(plugins)
    for name, found in plugins.of_kind("strategy").items():
        if not found.missing_requirements():
            cls: Any = composer.config_class("strategy", name)
            for fields in cls.suggestions(processes):
                yield cls.model_validate({"type": name, **fields})
