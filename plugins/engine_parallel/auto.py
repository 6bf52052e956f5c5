"""Strategy ``auto`` where nothing was chosen before: the whole model on every process."""

from __future__ import annotations

from typing import Any

from engine import Context
from engine_parallel.config import DDP, Auto, Single


def build(config: Auto, context: Context) -> Any:
    """Where the model's size is not known: the whole model on every process."""
    from engine_parallel.replicated import build_ddp, build_single

    if context.world_size == 1:
        return build_single(Single(), context)
    return build_ddp(DDP(), context)
