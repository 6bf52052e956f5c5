"""Configurations of the strategies."""

from __future__ import annotations

from pydantic import Field

from engine import Number, StrategyConfig


class Single(StrategyConfig):
    """One process."""

    def check_processes(self, processes: int) -> str | None:
        """One only."""
        if processes == 1:
            return None
        return f"'single' runs on 1 process, not {processes}; use {{type: ddp}}"


class DDP(StrategyConfig):
    """Every process holds the whole model; gradients are averaged."""

    bucket_mb: Number = Field(25.0, gt=0, description="Size of a gradient bucket, in MiB.")
