"""A plugin of tests: a penalty that reads modules, and components around others of their kind."""

from engine import Component, hookimpl


@hookimpl
def engine_penalties():
    """Of the routers of experts."""
    return [
        _component("load-balance", "LoadBalance", "load_balance", "Spreads tokens over experts.")
    ]


@hookimpl
def engine_optimizers():
    """Around another."""
    return [_component("lookahead", "Lookahead", "lookahead", "Slow weights beside fast ones.")]


@hookimpl
def engine_schedules():
    """Around another."""
    return [_component("delayed", "Delayed", "delayed", "Begins another schedule later.")]


@hookimpl
def engine_rewards():
    """Of others."""
    return [_component("sum", "Sum", "reward_sum", "A sum of rewards.")]


@hookimpl
def engine_strategies():
    """Around another."""
    return [_component("counted", "Counted", "counted", "Counts another strategy's steps.")]


def _component(kind, config, module, summary):
    return Component(
        kind, f"engine_outside.config:{config}", f"engine_outside.{module}:build", summary
    )
