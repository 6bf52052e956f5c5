"""Refuses a training that cannot fit into memory, before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from engine import (
    EngineError,
    Problem,
    Situation,
    Train,
)
from engine_plan.forecast import forecast, size
from engine_plan.machine import Machine


def memory_problems(situation: Situation) -> Sequence[Problem]:
    """A problem for each untrained stage that cannot fit.

    Counts only the unavoidable: model states and the activations of a forward pass. Stages with frozen
    parameters, whose needs are unknown, and machines that swap are not refused.
    """
    machine = Machine.here(situation.local_processes)
    processes = situation.processes
    where = f" on each of {processes} processes" if processes > 1 else ""
    problems = []
    for name in situation.stages:
        train = situation.spec.stages[name].train
        if train is None:
            continue
        found = forecast(situation, name, machine, _leanest(train))
        least = found.chosen.estimate.memory.least if found and found.whole else 0
        if least > machine.memory:
            what = (
                f"stages.{name}.train: needs at least {size(least)} of memory{where}, and "
                f"there are {size(machine.memory)}"
            )
            hint = "`engine plan` says what would make it fit; `--allow memory` tries all the same"
            problems.append(Problem(what, hint, "memory"))
    return problems


def expected(situation: Situation, stage: str) -> str:
    """Says how much memory the plan had expected for a stage that ran out of it."""
    machine = Machine.here(situation.local_processes)
    try:
        found = forecast(situation, stage, machine)
    except EngineError:
        found = None
    if found is None:
        return "`engine plan` cannot tell how much is needed, as it does not know the model's size"
    needs = size(found.chosen.estimate.memory.total)
    return f"`engine plan` expected {needs} of the {size(machine.memory)} there are"


def _leanest(train: Train) -> Train:
    """The stage as compiling may change it, which recomputes cheap operations by itself."""
    if train.compile is False or train.activation_checkpointing:
        return train
    return train.model_copy(update={"activation_checkpointing": "selective"})
