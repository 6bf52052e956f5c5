"""Every hook. Component hooks declare records; observer hooks watch and never change a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from engine.component import Component

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("engine")
hookimpl = pluggy.HookimplMarker("engine")
ENTRY_POINTS = "engine.v1"


@hookspec
def engine_data_sources() -> Sequence[Component]:  # type: ignore[empty-body]
    """Where records come from; the factory returns a ``DataSource``."""


@hookspec
def engine_processors() -> Sequence[Component]:  # type: ignore[empty-body]
    """Steps that keep, change or drop records; the factory returns a ``Processor``."""


@hookspec
def engine_tokenizers() -> Sequence[Component]:  # type: ignore[empty-body]
    """Tokenizers, trained or loaded; the factory returns ``train(texts) -> fast tokenizer``."""


@hookspec
def engine_models() -> Sequence[Component]:  # type: ignore[empty-body]
    """Models; the factory returns a ``torch.nn.Module`` with transformers' calling convention."""


@hookspec
def engine_adapters() -> Sequence[Component]:  # type: ignore[empty-body]
    """Trainable additions to a frozen model; the factory returns an ``Adapter``."""


@hookspec
def engine_strategies() -> Sequence[Component]:  # type: ignore[empty-body]
    """How processes share the work; the factory returns a ``Strategy``."""


@hookspec
def engine_optimizers() -> Sequence[Component]:  # type: ignore[empty-body]
    """Optimizers; the factory returns ``Optimizers``, called with the named parameters."""


@hookspec
def engine_schedules() -> Sequence[Component]:  # type: ignore[empty-body]
    """Learning-rate schedules; the factory returns ``Schedule``: progress → factor."""


@hookspec
def engine_objectives() -> Sequence[Component]:  # type: ignore[empty-body]
    """What training minimises; the factory returns an ``Objective``."""


@hookspec
def engine_rewards() -> Sequence[Component]:  # type: ignore[empty-body]
    """What scores answers; the factory returns a ``Reward``."""


@hookspec
def engine_evaluators() -> Sequence[Component]:  # type: ignore[empty-body]
    """Benchmarks and measures; the factory returns an ``Evaluator``."""


@hookspec
def engine_callbacks() -> Sequence[Component]:  # type: ignore[empty-body]
    """What watches and steers training, named in the spec; the factory returns a ``Callback``."""


@hookspec
def engine_commands() -> Sequence[click.Command]:  # type: ignore[empty-body]
    """Commands of the plugin's own; they appear as ``engine PLUGIN COMMAND``."""


@hookspec
def engine_run_started(folder: str, spec: Mapping[str, Any]) -> None:
    """A run begins or goes on; ``spec`` is the resolved spec."""


@hookspec
def engine_stage_started(stage: str, verb: str) -> None:
    """A stage that is not yet done begins or goes on."""


@hookspec
def engine_step_finished(event: Mapping[str, Any]) -> None:
    """A training step is done; ``event`` is its line of events.jsonl. Rank 0 only."""


@hookspec
def engine_checkpoint_saved(stage: str, step: int, folder: str) -> None:
    """A checkpoint is whole on the disk."""


@hookspec
def engine_stage_finished(stage: str, verb: str) -> None:
    """A stage is done."""


@hookspec
def engine_run_finished(folder: str, status: str) -> None:
    """The run ends: ``done``, ``failed`` or ``stopped``."""
