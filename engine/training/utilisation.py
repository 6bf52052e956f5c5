"""The speed of a training at the peak of its devices, which a step's ``utilisation`` is relative to."""

from __future__ import annotations

from engine.contracts.component import Precision
from engine.hardware.products import peak_speed
from engine.processes.process import Process


def peak_tokens(process: Process, precision: Precision, flops: float) -> float | None:
    """Tokens per second at the peak speed of all ranks' devices, of a training with so many FLOPs for
    each; None if either is unknown; collective.

    Rank 0 measures alone, before the first step: ranks that measure together slow each other.
    """
    if not flops:
        return None
    local = process.local_world_size

    def peak() -> float | None:
        return peak_speed(precision, str(process.device), local)

    speed: float | None = process.first_alone(peak)
    return speed * process.world_size / flops if speed else None
