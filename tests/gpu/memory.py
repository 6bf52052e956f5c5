"""The most memory that a step takes, beside what the plan says."""

from __future__ import annotations

import math

from engine_plan.estimate import Work, estimate
from rows import Row, Rows
from steps import Size, Steps

from engine.contracts.model_sizes import Layout

_TOLERANCE = 0.15
"""Of the estimate, which counts what is there for a moment as if it were all there at once."""
_SIZES = {
    "cuda": (
        Size("125M", 768, 12, 12, 50304, 4096, 4),
        Size("350M", 1024, 24, 16, 32000, 2048, 4),
    ),
    "cpu": (Size("small", 64, 2, 2, 512, 128, 2),),
}


def rows(device: str) -> Rows:
    """By size and ``activation_checkpointing``. On a CPU nothing is compared: the process has much
    else in its memory."""
    for size in _SIZES[device]:
        for recompute in ("none", "selective", "full"):
            how = False if recompute == "none" else recompute
            steps = Steps(size, device, "bf16", activation_checkpointing=how)
            needs = estimate(
                Work(size.shape, "bf16", size.rows, size.context, 1, device, recompute=recompute),
                Layout(),
            ).memory.total
            ratio = steps.peak() / needs
            compared = device == "cuda"
            yield Row(
                f"{size.name}, recomputing {recompute}: of the plan's",
                f"{ratio:.2f}" if compared else "",
                f"1 ± {_TOLERANCE}" if compared else "",
                math.isclose(ratio, 1, rel_tol=_TOLERANCE) if compared else None,
            )
            del steps
