"""The commands that need no plugin, and their output."""

from __future__ import annotations

from engine.cli.commands import main

__all__ = ["main"]
