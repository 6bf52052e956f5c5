"""Processors, which filter documents."""

from __future__ import annotations

from engine import Context, Processor, Text, each
from engine_data.config import Length


def build_length(config: Length, context: Context) -> Processor:
    """Drops texts by their length in characters, by the rules ``too-short`` and ``too-long``."""

    def length(document: Text) -> Text | str:
        if len(document.text) < config.min:
            return "too-short"
        if config.max is not None and len(document.text) > config.max:
            return "too-long"
        return document

    return each(length)
