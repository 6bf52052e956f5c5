"""Resolves ``auto`` for a train stage when it begins.

The choice is recorded, so that the stage keeps it wherever it is resumed.
"""

from __future__ import annotations

import math
from functools import partial

from engine.contracts.component import Precision
from engine.contracts.spec import Train
from engine.errors import RunError
from engine.hardware.precision import (
    AUTO,
    advice,
    best,
    cannot,
    resolved,
)
from engine.runs.context import RunContext

_COMPILE_ABOVE_FLOPS = {"cpu": 3e13, "cuda": 1e16}
"""Training FLOPs, about two minutes of them, above which compiling the layers (10 to 30 s) pays off."""


def choose_precision(run: RunContext, stage: str, config: Train) -> Precision:
    """The stage's precision; collective. Raises RunError if a rank's device does not support it.

    Warns of a precision that is slow on this machine, but keeps it.
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
            f"{stage}: precision {chosen}: {'; '.join(reasons)}", hint="use fp16 or fp32"
        )
    # A user who asks for fp32 wants its accuracy and needs no warning.
    silent = run.process.rank or (written and chosen == "fp32")
    slow = None if silent else advice(chosen, device)
    if slow:
        since = "as the spec says" if written else "as when it began"
        run.log.warn(f"{stage} is trained in {chosen}, {since}; {slow}", stage=stage)
    return chosen


def choose_compile(
    run: RunContext, stage: str, config: Train, flops: float, *, alike: bool
) -> bool:
    """Whether the stage's layers are compiled, given the FLOPs of all its training; collective.

    Layers are compiled only if rows are ``alike``, i.e. if all fill the sequence.
    """
    if config.compile is True and not alike and not run.process.rank:
        run.log.warn(
            "compile: nothing is compiled, because compiled layers need rows that fill the sequence, "
            "and rows here differ in length",
            stage=stage,
        )
    if isinstance(config.compile, bool):
        return config.compile and alike
    threshold = _COMPILE_ABOVE_FLOPS.get(run.process.device.type, math.inf)
    pays: bool = run.decide(stage, "compile", lambda: flops > threshold)
    return pays and alike
