"""What the plan expects of a stage that begins, for the log: a report compares it with the outcome."""

from __future__ import annotations

from collections.abc import Mapping

from engine import EngineError, Situation
from engine_plan.forecast import Forecast, forecast
from engine_plan.machine import Machine

_LONG_FLOPS = 1e13
"""FLOPs from which on a stage's time is planned: minutes on a core of a CPU. To measure the speed, once
on each machine, takes half a second, which would be much of a shorter stage."""
_LONG_SECONDS = 60


def expectation(situation: Situation, stage: str) -> Mapping[str, float]:
    """The parameters, steps, tokens, FLOPs, seconds, and the bytes of memory and disk that the plan
    expects for a train stage; without those that it does not know."""
    try:
        found = forecast(situation, stage, Machine.here(situation.local_processes))
    except EngineError:
        return {}
    if found is None:
        return {}
    figures: dict[str, float | None] = {
        "parameters": found.parameters,
        "memory": found.chosen.estimate.memory.total,
        "disk": found.disk,
    }
    timed = found.budget.unit == "seconds"  # whose steps are known by the speed alone
    if not timed or _is_long(found):
        figures |= {"steps": found.steps, "tokens": found.tokens, "flops": found.flops}
    if _is_long(found):
        figures["seconds"] = found.seconds
    return {name: value for name, value in figures.items() if value is not None}


def _is_long(found: Forecast) -> bool:
    if found.budget.unit == "seconds":
        return found.budget.value >= _LONG_SECONDS
    return (found.flops or 0) >= _LONG_FLOPS
