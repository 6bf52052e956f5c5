"""A plugin with an optimizer of its own, as text."""

from __future__ import annotations

PLUGIN = """
from engine import Component, hookimpl


@hookimpl
def engine_optimizers():
    return [Component("{type}", "{module}_config:Own", "{module}_config:build", "Its own.", {extra})]
"""
CONFIG = """
from engine import Number, OptimizerConfig
from pydantic import Field


class Own(OptimizerConfig):
    \"\"\"Its own.\"\"\"

    zest: Number = Field(1.0, description="Zest.")


def build(config, context):
    raise AssertionError("nobody trains here")
"""
