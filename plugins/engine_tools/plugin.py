"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """Uses a model, looks at its data, checks a spec's resume, begins a plugin."""
    from engine_tools.commands import chat, data, export, generate, new_plugin, verify_resume

    return [generate, chat, data, export, verify_resume, new_plugin]
