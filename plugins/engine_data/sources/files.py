"""Source ``files``."""

from __future__ import annotations

from functools import partial

from engine import Context
from engine_data.config import Files
from engine_data.sources.local_files import FilesSource


def build(config: Files, context: Context) -> FilesSource:
    """Builds the source."""
    return FilesSource(
        config.paths,
        config.records,
        config.columns,
        license=config.license,
        say=partial(context.say, "source"),
    )
