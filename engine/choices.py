"""What ``auto`` means for a train stage: chosen when it begins, and recorded, so that it goes on alike
wherever it is resumed.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import RunError
from engine.precision import AUTO, advice, best, cannot, resolved
from engine.products import Precision
from engine.spec import Train

if TYPE_CHECKING:
    from engine.run import Run

_COMPILE_ABOVE_FLOPS = {"cpu": 3e13, "cuda": 1e16}
"""Training FLOPs from which compiling the layers, 10 to 30 s, repays itself: about two minutes."""


def choose_precision(run: Run, stage: str, config: Train) -> Precision:
    """The stage's precision; collective. Raises RunError where a rank's device cannot do it.

    One that is slow here is obeyed, with a warning.
    """
    device = run.process.device
    written = config.precision != AUTO
    chosen: Precision = (
        resolved(config.precision, device)
        if written
        else run.decide(stage, "precision", partial(best, device))
    )
    refused = run.process.all_gather(cannot(chosen, device))
    reasons = [f"rank {rank}: {why}" for rank, why in enumerate(refused) if why]
    if reasons:
        raise RunError(
            f"{stage}: precision {chosen}: {'; '.join(reasons)}", mend="use fp16 or fp32"
        )
    # Whoever writes fp32 wants its accuracy, and need not hear that narrow products are faster.
    silent = run.process.rank or (written and chosen == "fp32")
    slow = None if silent else advice(chosen, device)
    if slow:
        since = "as the spec says" if written else "as it began"
        run.log.warn(f"{stage} is trained in {chosen}, {since}; {slow}", stage=stage)
    return chosen


def choose_compile(run: Run, stage: str, config: Train, flops: float, *, alike: bool) -> bool:
    """Whether the stage's layers are compiled, given the FLOPs of all its training; collective.

    Compiled layers are for rows that are ``alike``: that fill the sequence.
    """
    if config.compile is True and not alike and not run.process.rank:
        run.log.warn(
            "compile: layers are compiled for rows that fill the sequence, and here rows have other "
            "lengths, so that nothing is",
            stage=stage,
        )
    if isinstance(config.compile, bool):
        return config.compile and alike
    threshold = _COMPILE_ABOVE_FLOPS.get(run.process.device.type, math.inf)
    pays: bool = run.decide(stage, "compile", lambda: flops > threshold)
    return pays and alike
