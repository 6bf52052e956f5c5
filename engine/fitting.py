"""Refuses a training that cannot fit into memory, before it starts."""

from __future__ import annotations

from pathlib import Path

from engine.errors import RunError, SpecError
from engine.folder import RunFolder
from engine.forecast import forecast, size
from engine.machine import Machine
from engine.spec import Loaded, Train


def check_memory(
    loaded: Loaded, runs: Path, processes: int, *, here: int, only: str | None = None
) -> None:
    """Raises SpecError with every stage still to be trained that cannot fit.

    ``here`` of the ``processes`` share this machine. Only what cannot be without counts: the
    model's states and the activations of a forward pass. What frozen parameters need is not known,
    and whether a machine swaps is nobody's business, so nothing is refused for either.
    """
    machine = Machine.here(here)
    where = f" on each of {processes} processes" if processes > 1 else ""
    problems = []
    for name in loaded.spec.order:
        train = loaded.spec.stages[name].train
        if train is None or only not in (None, name) or _done(loaded, runs, name):
            continue
        found = forecast(loaded, name, processes, machine, _leanest(train))
        least = found.chosen.estimate.memory.least if found and found.whole else 0
        if least > machine.memory:
            problems.append(
                f"stages.{name}.train: needs at least {size(least)} of memory{where}, and "
                f"there are {size(machine.memory)}"
            )
    if problems:
        raise SpecError(
            *problems,
            mend="`engine plan` says what would make it fit; `--allow memory` tries all the same",
        )


def _leanest(train: Train) -> Train:
    """As compiling may make it: what is cheap is then computed again without being asked."""
    if train.compile is False or train.activation_checkpointing:
        return train
    return train.model_copy(update={"activation_checkpointing": "selective"})


def _done(loaded: Loaded, runs: Path, name: str) -> bool:
    try:
        standing = RunFolder(runs / loaded.spec.name).standing(name)
    except RunError:  # damaged, which is told when it comes to that
        return False
    return standing is not None and standing.status == "done"
