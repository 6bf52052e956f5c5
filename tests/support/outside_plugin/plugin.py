"""A plugin of tests: a penalty that reads modules, and components around others of their kind."""

from engine import Component, hookimpl


@hookimpl
def engine_penalties():
    """Of the routers of experts."""
    return [
        Component(
            "load-balance",
            "engine_outside.config:LoadBalance",
            "engine_outside.load_balance:build",
            "Spreads tokens over experts.",
        )
    ]
