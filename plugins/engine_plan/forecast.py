"""Forecasts what each train stage of a spec needs on every rank, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine import (
    RECOMPUTED,
    SEQUENCE,
    Amount,
    Config,
    Layout,
    ModelShape,
    Precision,
    Scores,
    Situation,
    StrategyConfig,
    Train,
    model_of,
    parameter_count,
    readers_of,
    shape_of,
)
from engine.hardware import AUTO, resolved
from engine_plan.batches import batch_of
from engine_plan.estimate import (
    WIDTHS,
    Estimate,
    Work,
    estimate,
    saved_bytes,
)
from engine_plan.machine import Machine
from engine_plan.timed.sample import Sample

_KEPT_BESIDE = 1
"""Checkpoints in addition to the kept ones: the oldest is removed only after the newest is whole."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A strategy with its layout, its estimated needs on each rank and, if chosen from several, the
    reason ``why``."""

    config: StrategyConfig
    layout: Layout
    estimate: Estimate
    fits: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a train stage needs.

    ``memory`` is a rank's available memory in bytes, ``disk`` the bytes of checkpoints and the final
    model, ``step_tokens`` the tokens in a step. Figures that depend on unprepared data (a budget in
    epochs) or on an unknown device's speed are None. If only some parameters are trained, ``whole`` is
    False and figures are upper bounds.
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
        """Duration of a step, from a measured speed (which is cached)."""
        work = self.work
        sample = Sample(self.shape, work.rows, work.sequence, work.scores, work.precision)
        speeds = self.machine.speeds(sample)
        return None if speeds is None else self.chosen.estimate.seconds(speeds, self.machine.links)

    @property
    def steps(self) -> float | None:
        """Number of steps in the budget."""
        unit, value = self.budget.unit, self.budget.value
        if unit == "epochs":
            return None
        seconds = self.step_seconds if unit == "seconds" else None
        per_step = {"steps": 1, "tokens": self.step_tokens, "seconds": seconds}[unit]
        return math.ceil(value / per_step) if per_step else None

    @property
    def tokens(self) -> float | None:
        """Tokens in the whole training."""
        return None if self.steps is None else self.steps * self.step_tokens

    @property
    def seconds(self) -> float | None:
        """Duration of the whole training."""
        if self.steps is None or self.step_seconds is None:
            return None
        return self.steps * self.step_seconds

    @property
    def parameters(self) -> int:
        """Number of the model's parameters."""
        return parameter_count(self.shape)

    @property
    def fits(self) -> bool:
        """Whether a rank has enough memory, including buffers."""
        return self.chosen.fits

    @property
    def flops(self) -> float | None:
        """FLOPs of the whole training."""
        return None if self.steps is None else self.steps * self.chosen.estimate.flops


def forecasts(situation: Situation, machine: Machine) -> dict[str, Forecast | None]:
    """The forecast of each train stage in order of execution; None if a model's size is unknown."""
    names = [name for name in situation.stages if situation.spec.stages[name].train]
    return {name: forecast(situation, name, machine) for name in names}


def forecast(
    situation: Situation, name: str, machine: Machine, train: Train | None = None
) -> Forecast | None:
    """The forecast of one stage, optionally with its configuration replaced by ``train``."""
    stages = situation.spec.stages
    shape, model = shape_of(stages, name, built=True), model_of(stages, name)
    if shape is None or model is None:
        return None
    train = train or stages[name].train
    assert train is not None
    precision, readers = _precision(train, machine), readers_of(stages, name, train)
    if readers is None:
        return None
    row = train.row_length(model) or SEQUENCE
    batch = batch_of(train, readers, row)
    companions = tuple(_critic(its) for its in readers.trained)
    work = replace(
        _work(
            train,
            shape,
            math.ceil(batch.length.tokens),
            precision,
            model.scores(machine.device),
            machine.device,
        ),
        frozen=sum(WIDTHS[precision].weight * parameter_count(its) for its in readers.frozen)
        + sum(4 * parameter_count(its) for its in readers.asked),
        companions=companions,
        batch=batch,
    )
    chosen = choose(train, work, machine, situation)
    work = divided(work, chosen.layout)
    written = sum(map(parameter_count, (shape, *companions)))
    kept = train.checkpoint.keep + _KEPT_BESIDE + bool(train.evaluate)
    return Forecast(
        stage=name,
        chosen=chosen,
        shape=shape,
        work=work,
        memory=machine.memory,
        machine=machine,
        budget=train.budget,
        step_tokens=round(batch.tokens),
        disk=kept * saved_bytes(work, Layout()) + 4 * written,
        whole=not train.freeze and train.model.trained_adapter is None,
    )


def choose(train: Train, work: Work, machine: Machine, situation: Situation) -> Candidate:
    """The stage's strategy; for `auto`, the one chosen from all installed strategies."""
    strategy: Any = train.strategy
    if strategy.chooses:
        several = candidates(train, work, machine, situation)
        chosen = _choice([c for c in several if c.config.automatic])
        if chosen is not None:
            return chosen
    return _candidate(strategy, train, work, situation.processes, machine)


def _choice(several: Sequence[Candidate]) -> Candidate | None:
    """The first candidate that fits, from the cheapest on, with the reason.

    If none fits, the one that needs the least memory: the estimate may be wrong, and `engine plan` says
    what to change.
    """
    if not several:
        return None
    fitting = [candidate for candidate in several if candidate.fits]
    if fitting:
        others = f" of {len(fitting)} layouts that fit" if len(fitting) > 1 else ""
        why = f"least traffic and waiting{others}" if others else "the only one that fits"
        return replace(fitting[0], why=why)
    least = min(several, key=lambda candidate: candidate.estimate.memory.total)
    why = f"none of {len(several)} layouts fits, and this one needs the least memory"
    return replace(least, why=why)


def candidates(train: Train, work: Work, machine: Machine, situation: Situation) -> list[Candidate]:
    """The valid layouts that installed strategies suggest for these processes, those with the least
    communication and waiting first."""
    found, processes = [], situation.processes
    for strategy in _suggested(situation):
        optimizer: Any = train.optimizer
        possible = (
            strategy.check_processes(processes) is None
            and strategy.check_model(work.shape, processes) is None
            and strategy.check_train(train, processes) is None
            and (optimizer.elementwise or strategy.whole_matrices)
            and all(penalty.inputs <= strategy.penalty_inputs for penalty in train.penalties)
        )
        if possible:
            found.append(_candidate(strategy, train, work, processes, machine))
    return sorted(found, key=lambda c: c.estimate.cost(machine))


def divided(work: Work, layout: Layout) -> Work:
    """The work with each rank's micro-batches: no larger than its rows and, with a pipeline, as many as
    stages if there are enough rows."""
    batch = work.batch
    assert batch is not None, "a forecast knows the texts of a batch"
    rows = max(1, math.ceil(batch.texts / layout.samples_over))
    most = min(batch.most, max(1, rows // layout.pipeline))
    return replace(work, rows=most, micro_batches=math.ceil(rows / most))


def plain(config: Config) -> dict[str, Any]:
    """A component in the form of a spec: its type, then fields that differ from the defaults."""
    fields = config.model_dump(mode="json", exclude_defaults=True)
    return {"type": fields.pop("type"), **fields}


def size(number: float) -> str:
    """Formats bytes for people: ``5.1 GB``."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f} B"


def _precision(train: Train, machine: Machine) -> Precision:
    """The stage's precision on this machine, with ``auto`` resolved."""
    if train.precision == AUTO and machine.known is not None:
        return "bf16" if machine.known.bf16 else "fp16"
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
        kept_floats=sum(penalty.kept_floats for penalty in train.penalties),
        averaged=train.ema is not None,
        staged=train.checkpoint.background and device == "cpu",
    )


def _critic(shape: ModelShape) -> ModelShape:
    """The sizes of a model whose head is scalar: without the vocabulary's matrix, as a tied one."""
    head = 0 if shape.tied else shape.vocabulary * shape.hidden_size
    fewer = None if shape.parameters is None else shape.parameters - head
    return replace(shape, tied=True, parameters=fewer)


def _candidate(
    strategy: StrategyConfig, train: Train, work: Work, processes: int, machine: Machine
) -> Candidate:
    layout = strategy.layout(processes)
    needs = estimate(divided(work, layout), layout)
    return Candidate(strategy, layout, needs, needs.memory.total <= machine.memory)


def _suggested(situation: Situation) -> Iterator[StrategyConfig]:
    for name, config_class in situation.configs("strategy").items():
        cls: Any = config_class
        for fields in cls.suggestions(situation.processes):
            yield cls.model_validate({"type": name, **fields})
