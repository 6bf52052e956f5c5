"""What would make a training fit into memory: only what does, the cheapest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from engine.config import Config
from engine.forecast import Forecast, candidates, forecast, plain
from engine.machine import Machine
from engine.spec import Loaded, Train

_STRATEGIES = 3
"""Strategies that are told, of all that fit."""

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Advice:
    """Fields of a train stage, by their path in it, and the bytes that a rank then needs."""

    settings: Settings
    memory: float

    def __str__(self) -> str:
        return ", ".join(f"{path}: {_written(value)}" for path, value in self.settings.items())

    def fields(self) -> dict[str, Any]:
        """The fields as a spec says them."""
        return {path: _plain(value) for path, value in self.settings.items()}


def advice(loaded: Loaded, found: Forecast, processes: int, machine: Machine) -> list[Advice]:
    """Every knob that makes the stage fit alone, in order of cost, or else the first few together.

    The cost is in speed: smaller micro-batches are almost free, narrow numbers even gain, what is
    computed again costs up to a third, and other strategies cost traffic.
    """
    train = loaded.spec.stages[found.stage].train
    assert train is not None

    def tried(settings: Settings) -> Advice | None:
        changed = forecast(loaded, found.stage, processes, machine, _with(train, settings))
        if changed is None or not changed.fits:
            return None
        return Advice(settings, changed.chosen.estimate.memory.total)

    knobs = [list(options) for options in _knobs(train, found, machine)]
    alone = [next(filter(None, map(tried, options)), None) for options in knobs]
    others = candidates(train, found.work, processes, machine, loaded.plugins)
    strategies = [{"strategy": other.config} for other in others]
    fitting = [*alone, *[a for a in map(tried, strategies) if a][:_STRATEGIES]]
    if any(fitting):
        return [a for a in fitting if a]
    together: dict[str, Any] = {}
    for options in knobs:  # each turned as far as it goes
        together |= options[-1]
        if both := tried(together):
            return [both]
    for strategy in strategies:
        if both := tried({**together, **strategy}):
            return [both]
    return []


def _knobs(train: Train, found: Forecast, machine: Machine) -> Iterator[Iterator[Settings]]:
    """For each knob its positions, gentlest first."""
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
    """The stage with these fields, one of them perhaps the batch's."""
    fields = dict(settings)
    micro = fields.pop("batch.micro_tokens", None)
    if micro is not None:
        fields["batch"] = train.batch.model_copy(update={"micro_tokens": micro})
    return train.model_copy(update=fields)


def _plain(value: Any) -> Any:
    """As a spec says it."""
    return plain(value) if isinstance(value, Config) else value


def _written(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").strip()
