"""Assembles a training loop from built components, without a spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from engine.contracts.callback import Callback
from engine.contracts.context import Context
from engine.contracts.feed import FeedSetup
from engine.contracts.objective import Objective
from engine.contracts.optimizer import Optimizers, Schedule
from engine.contracts.strategy import Setup, Strategy
from engine.data.examples import TrainingData
from engine.event_log import EventLog
from engine.processes.process import Process
from engine.storage.checkpoints import Checkpoints
from engine.training.feed import RecordFeed
from engine.training.loop import Loop
from engine.training.loop_plan import Plan
from engine.training.penalties import Named, Penalties


@dataclass(frozen=True, slots=True)
class TrainingParts:
    """Components and settings of a training.

    ``folder`` is the stage's; ``frozen`` are models that are used and do not learn; ``on_step`` gets
    each step's event. Further fields are as in :class:`engine.Setup`.
    """

    plan: Plan
    context: Context
    process: Process
    log: EventLog
    folder: Path
    data: TrainingData
    model: nn.Module
    objective: Objective
    strategy: Strategy
    optimizer: Optimizers
    schedule: Schedule
    checkpoints: Checkpoints
    callbacks: Sequence[Callback] = ()
    penalties: Sequence[Named] = ()
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)
    activation_checkpointing: Literal["selective", "full"] | bool = False
    offload_activations: bool = False
    ema: float | None = None
    on_step: Callable[[Mapping[str, Any]], None] = lambda event: None


def assemble_training(parts: TrainingParts) -> Loop:
    """Prepares the strategy and returns the loop, ready to run; collective."""
    plan, strategy = parts.plan, parts.strategy
    penalties = Penalties(parts.penalties, parts.model)
    strategy.prepare(
        Setup(
            model=parts.model,
            optimizer=parts.optimizer,
            objective=penalties.around(parts.objective),
            frozen=parts.frozen,
            precision=parts.context.precision,
            compile=plan.compile,
            activation_checkpointing=parts.activation_checkpointing,
            offload_activations=parts.offload_activations,
            ema=parts.ema,
            seed=plan.seed,
            parameter_terms=penalties.parameter_terms,
        )
    )
    setup = FeedSetup(
        context=parts.context,
        data=parts.data,
        strategy=strategy,
        plan=plan,
        frozen=parts.frozen,
        folder=parts.folder / "rollouts",
        progress=parts.log.display.progress,
    )
    feed = parts.objective.feed(setup)
    if feed is not None:
        # Its FLOPs, such as those of sampling, are those of a few steps, which take all the time.
        plan = replace(plan, peak_tokens=None)
    return Loop(
        plan,
        data=parts.data,
        feed=feed or RecordFeed(parts.objective, setup),
        strategy=strategy,
        schedule=parts.schedule,
        callbacks=parts.callbacks,
        penalties=penalties,
        checkpoints=parts.checkpoints,
        process=parts.process,
        log=parts.log,
        on_step=parts.on_step,
    )
