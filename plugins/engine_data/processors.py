"""Processors, which filter records."""

from __future__ import annotations

import hashlib
from dataclasses import fields

from engine import Context, Record
from engine_data.config import ExactDedup, Length

_NOT_TEXT = {"id", "source", "license", "meta"}


class ExactDedupProcessor:
    """Drops repeated texts; keeps a 16-byte hash of every text seen."""

    def __init__(self, config: ExactDedup) -> None:
        self._ignore = config.ignore
        self._seen: set[bytes] = set()

    def process(self, record: Record) -> Record | str:
        """See :class:`engine.Processor`; drops by the rule ``duplicate``."""
        text = text_of(record)
        if "whitespace" in self._ignore:
            text = " ".join(text.split())
        if "case" in self._ignore:
            text = text.casefold()
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            return "duplicate"
        self._seen.add(digest)
        return record


class LengthProcessor:
    """Drops texts by their length in characters."""

    def __init__(self, config: Length) -> None:
        self._config = config

    def process(self, record: Record) -> Record | str:
        """See :class:`engine.Processor`; drops by the rules ``too-short`` and ``too-long``."""
        length = len(text_of(record))
        if length < self._config.min:
            return "too-short"
        if self._config.max is not None and length > self._config.max:
            return "too-long"
        return record


def build_exact_dedup(config: ExactDedup, context: Context) -> ExactDedupProcessor:
    """Builds the processor."""
    return ExactDedupProcessor(config)


def build_length(config: Length, context: Context) -> LengthProcessor:
    """Builds the processor."""
    return LengthProcessor(config)


def text_of(record: Record) -> str:
    """The fields of a record's schema as one text."""
    own = (getattr(record, f.name) for f in fields(record) if f.name not in _NOT_TEXT)
    return "\n".join(value if isinstance(value, str) else repr(value) for value in own)
