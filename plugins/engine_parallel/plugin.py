"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_strategies() -> Sequence[Component]:
    """One process, or several that each hold the whole model."""
    return [
        Component(
            "single",
            "engine_parallel.config:Single",
            "engine_parallel.replicated:build_single",
            "One process.",
            default=True,
        ),
        Component(
            "ddp",
            "engine_parallel.config:DDP",
            "engine_parallel.replicated:build_ddp",
            "The model on every process, the batch split (torch DistributedDataParallel).",
        ),
        Component(
            "mesh",
            "engine_parallel.config:Mesh",
            "engine_parallel.mesh:build",
            "A grid: copies, shards, parts of matrices, layers, rows and experts.",
        ),
        Component(
            "auto",
            "engine_parallel.config:Auto",
            "engine_parallel.auto:build",
            "Whichever of the installed ones fits with the least traffic.",
        ),
    ]
