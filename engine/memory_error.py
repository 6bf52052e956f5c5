"""Says of a stage that ran out of memory which fields help, and what the plan had expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.errors import EngineError, RunError
from engine.forecast import forecast, size
from engine.launch import Process
from engine.machine import Machine
from engine.plan import MICRO_TOKENS
from engine.spec import Loaded, Train

_ON_A_CPU = "DefaultCPUAllocator: "
"""In the message of a plain RuntimeError; torch has a type of its own for accelerators only."""


@contextmanager
def memory_errors_explained(
    loaded: Loaded, stage: str, config: Train, process: Process
) -> Iterator[None]:
    """Raises RunError where torch finds no memory for a tensor."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _ON_A_CPU not in str(error):
            raise
        told = str(error).splitlines()[0].strip()
        raise RunError(
            f"{stage}: out of memory on {process.device}: {told}; "
            + _expected(loaded, stage, process),
            mend="; or ".join(_what_helps(config)),
        ) from error


def _expected(loaded: Loaded, stage: str, process: Process) -> str:
    machine = Machine.here(process.local_world_size)
    try:
        found = forecast(loaded, stage, process.world_size, machine)
    except EngineError:
        found = None
    if found is None:
        return "`engine plan` cannot tell how much is needed, as it does not know the model's size"
    needs = size(found.chosen.estimate.memory.total)
    return f"`engine plan` expected {needs} of the {size(machine.memory)} there are"


def _what_helps(config: Train) -> Iterator[str]:
    yield f"lower `batch.micro_tokens` from {config.batch.micro_tokens or MICRO_TOKENS}"
    if not config.activation_checkpointing:
        yield "set `activation_checkpointing: true`"
    yield "let more processes share the weights: `strategy: {type: mesh, shard: N}`"
