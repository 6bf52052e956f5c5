"""Finds settings that make a training fit into memory, the cheapest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from engine import Config, Situation, Train
from engine_plan.forecast import (
    Forecast,
    candidates,
    forecast,
    plain,
)
from engine_plan.machine import Machine

_STRATEGIES = 3
"""Most strategies to suggest."""

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Advice:
    """Fields of a train stage by their path, and the bytes that a rank needs with them."""

    settings: Settings
    memory: float

    def __str__(self) -> str:
        return ", ".join(f"{path}: {_written(value)}" for path, value in self.settings.items())

    def fields(self) -> dict[str, Any]:
        """The fields in the form of a spec."""
        return {path: _plain(value) for path, value in self.settings.items()}


def advice(situation: Situation, found: Forecast, machine: Machine) -> list[Advice]:
    """Each change that makes the stage fit by itself, in order of cost, or else the first few combined.

    The cost is speed: smaller micro-batches are almost free, 16-bit precision even gains, recomputation
    costs up to a third, and other strategies cost communication.
    """
    train = situation.spec.stages[found.stage].train
    assert train is not None

    def tried(settings: Settings) -> Advice | None:
        changed = forecast(situation, found.stage, machine, _with(train, settings))
        if changed is None or not changed.fits:
            return None
        return Advice(settings, changed.chosen.estimate.memory.total)

    knobs = [list(options) for options in _knobs(train, found, machine)]
    alone = [next(filter(None, map(tried, options)), None) for options in knobs]
    others = candidates(train, found.work, machine, situation)
    strategies = [{"strategy": other.config} for other in others]
    fitting = [*alone, *[a for a in map(tried, strategies) if a][:_STRATEGIES]]
    if any(fitting):
        return [a for a in fitting if a]
    together: dict[str, Any] = {}
    for options in knobs:  # each at its strongest setting
        together |= options[-1]
        if both := tried(together):
            return [both]
    for strategy in strategies:
        if both := tried({**together, **strategy}):
            return [both]
    return []


def _knobs(train: Train, found: Forecast, machine: Machine) -> Iterator[Iterator[Settings]]:
    """For each kind of change its settings, mildest first."""
    rows, sequence = found.work.rows, found.work.sequence
    if rows > 1:
        halves = [rows >> n for n in range(1, rows.bit_length())]
        yield ({"batch.micro_tokens": half * sequence} for half in halves)
    if found.work.precision == "fp32":
        yield iter([{"precision": "bf16"}])
    stronger = {False: ("selective", "full"), "selective": ("full",)}
    for way in stronger.get(train.activation_checkpointing, ()):
        yield iter([{"activation_checkpointing": way}])
    if machine.device != "cpu" and not train.offload_activations:
        yield iter([{"offload_activations": True}])


def _with(train: Train, settings: Settings) -> Train:
    """The stage with these fields changed; one may be a field of the batch."""
    fields = dict(settings)
    micro = fields.pop("batch.micro_tokens", None)
    if micro is not None:
        fields["batch"] = train.batch.model_copy(update={"micro_tokens": micro})
    return train.model_copy(update=fields)


def _plain(value: Any) -> Any:
    """The value in the form of a spec."""
    return plain(value) if isinstance(value, Config) else value


def _written(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").strip()
