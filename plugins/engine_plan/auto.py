"""Strategy ``auto``: builds the one that the plan chooses for these processes."""

from __future__ import annotations

from typing import Any

from engine import (
    Config,
    Context,
    Layout,
    RunError,
    Strategy,
)
from engine_plan.config import Auto
from engine_plan.forecast import forecast, plain
from engine_plan.machine import Machine


def build(config: Auto, context: Context) -> Strategy:
    """Builds the strategy that rank 0 chooses; data parallelism if the model's size is unknown."""
    chosen, why = context.first(lambda: _choice(context))
    if why:
        context.say("strategy_chosen", "", strategy=chosen, why=why)
    strategy = context.configs("strategy")[chosen["type"]].model_validate(chosen)
    built: Strategy = context.component("strategy", strategy)
    return built


def _choice(context: Context) -> tuple[dict[str, Any], str]:
    """The chosen strategy in the form of a spec, and the reason."""
    situation = context.situation()
    if situation is not None:
        train = situation.spec.stages[context.stage].train
        assert train is not None, "a strategy is part of a train stage"
        train = train.model_copy(update={"precision": context.precision})
        machine = Machine.here(situation.local_processes)
        found = forecast(situation, context.stage, machine, train)
        if found is not None and not found.chosen.config.chooses:
            return plain(found.chosen.config), found.chosen.why
    return plain(_copies(context)), ""


def _copies(context: Context) -> Config:
    """The installed strategy that keeps the whole model on each process. Raises RunError if there is
    none."""
    for name, config_class in context.configs("strategy").items():
        cls: Any = config_class
        for fields in cls.suggestions(context.world_size):
            strategy = cls.model_validate({"type": name, **fields})
            if strategy.automatic and strategy.layout(context.world_size) == Layout(
                data=context.world_size
            ):
                return strategy  # type: ignore[no-any-return]
    raise RunError(
        "strategy 'auto': no installed strategy puts the whole model on each process",
        hint="do without `--no-plugin parallel`, or name the strategy",
    )
