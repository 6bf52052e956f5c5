"""The source of local files."""

from __future__ import annotations

from functools import partial

from engine import Context
from engine_data.config import Files
from engine_data.reading import FilesSource


def build(config: Files, context: Context) -> FilesSource:
    """The source."""
    return FilesSource(
        config.paths,
        config.records,
        config.columns,
        license=config.license,
        say=partial(context.say, "source"),
    )
