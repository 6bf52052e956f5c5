"""The components that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_strategies() -> Sequence[Component]:
    """Strategies for one process, for data parallelism, and for meshes."""
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
            "Data parallelism: the whole model on every process (as torch's DistributedDataParallel).",
        ),
        Component(
            "mesh",
            "engine_parallel.config:Mesh",
            "engine_parallel.mesh.strategy:build",
            "Data, FSDP, tensor, pipeline, context and expert parallelism, combined.",
        ),
    ]
