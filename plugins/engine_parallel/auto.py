"""Strategy ``auto``: whatever costs least of what fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine import Context
from engine_parallel.config import DDP, Mesh, Single

if TYPE_CHECKING:
    from engine import Candidate
    from engine_parallel.config import Auto


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, str] | None:
    """The first that fits of candidates that come cheapest first, and why it was taken.

    Only this plugin's: DeepSpeed and others want to be asked for by name. Where none fits, the one
    that needs least: the estimate may be wrong, and `engine plan` says what can be done.
    """
    candidates = [c for c in candidates if isinstance(c.config, Single | DDP | Mesh)]
    if not candidates:
        return None
    fitting = [candidate for candidate in candidates if candidate.fits]
    if fitting:
        others = f" of {len(fitting)} layouts that fit" if len(fitting) > 1 else ""
        return fitting[
            0
        ], f"least traffic and waiting{others}" if others else "the only one that fits"
    least = min(candidates, key=lambda candidate: candidate.estimate.memory.total)
    return least, f"none of {len(candidates)} layouts fits, and this one needs the least memory"


def build(config: Auto, context: Context) -> Any:
    """Where the model's size is not known: the whole model on every process."""
    from engine_parallel.replicated import build_ddp, build_single

    if context.world_size == 1:
        return build_single(Single(), context)
    return build_ddp(DDP(), context)
