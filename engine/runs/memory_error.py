"""Explains that a stage ran out of memory: which fields help, and what plugins know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.contracts.model_sizes import MICRO_TOKENS
from engine.contracts.spec import Train
from engine.errors import RunError
from engine.processes.process import Process
from engine.spec.loading import Loaded

_ON_A_CPU = "DefaultCPUAllocator: "
"""Part of the message of a CPU's RuntimeError; torch has an exception type only for accelerators."""


@contextmanager
def memory_errors_explained(
    loaded: Loaded, stage: str, config: Train, process: Process
) -> Iterator[None]:
    """Turns torch's out-of-memory errors into RunError with hints."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _ON_A_CPU not in str(error):
            raise
        reason = str(error).splitlines()[0].strip()
        situation = loaded.situation(process.world_size, process.local_world_size, [stage])
        hook = loaded.plugins.hooks().hook
        known = hook.engine_out_of_memory(spec=loaded.spec, stage=stage, situation=situation)
        raise RunError(
            "; ".join([f"{stage}: out of memory on {process.device}: {reason}", *known]),
            hint="; or ".join(_what_helps(config)),
        ) from error


def _what_helps(config: Train) -> Iterator[str]:
    yield f"lower `batch.micro_tokens` from {config.batch.micro_tokens or MICRO_TOKENS}"
    if not config.activation_checkpointing:
        yield "set `activation_checkpointing: true`"
    yield "let more processes share the weights: `strategy: {type: mesh, shard: N}`"
