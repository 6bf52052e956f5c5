"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import Component, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """Texts of a model for a report."""
    return [
        Component(
            "samples",
            "engine_report.config:Samples",
            "engine_report.samples:build",
            "Logs what the model writes after a few prompts; length and repetition of its texts.",
        )
    ]


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """`engine report` and `engine watch`."""
    from engine_report.page.command import report
    from engine_report.watch.command import watch

    return [report, watch]
