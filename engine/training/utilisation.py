"""The speed of a training at the peak of its devices, which a step's ``utilisation`` is relative to."""

from __future__ import annotations

from engine.contracts.component import Precision
from engine.contracts.model_sizes import Beside
from engine.contracts.spec import Train
from engine.hardware.products import peak_speed
from engine.processes.process import Process
from engine.training.flops import Flops


def peak_tokens(process: Process, config: Train, precision: Precision, each: Flops) -> float | None:
    """Tokens per second at the peak speed of all ranks' devices, of a model with these FLOPs for
    ``each``; None if it is unknown, also where those of other models are not among them; collective.

    Rank 0 measures alone, before the first step: ranks that measure together slow each other.
    """
    flops = each.layers if config.objective.head == "scalar" else each.total
    if not flops or config.objective.beside() != Beside():
        return None
    local = process.local_world_size

    def peak() -> float | None:
        return peak_speed(precision, str(process.device), local)

    speed: float | None = process.first_alone(peak)
    return speed * process.world_size / flops if speed else None
