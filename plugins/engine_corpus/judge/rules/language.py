"""Processor ``language``: detects the language of documents with CLD2."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pycld2

from engine import Context, Processor
from engine_corpus.judge.rules.config import Language
from engine_corpus.judge.rules.language_codes import UNKNOWN, modern

_NONCHARACTERS = "".join(map(chr, range(0xFDD0, 0xFDF0))) + "".join(
    chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
_REFUSED = re.compile(f"[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x9f{_NONCHARACTERS}]")
"""Characters that CLD2 calls invalid."""


class LanguageDetection(Processor):
    """Columns ``language``, null if it is not recognised, and ``language_confidence``, the share of the
    text in that language; drops by the rule ``other-language``."""

    def __init__(self, config: Language) -> None:
        self._keep, self._min_confidence = config.keep, config.min_confidence

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`."""
        found = [detected(text) for text in batch.column("text").to_pylist()]
        columns = {
            "language": pa.array([language for language, _ in found], pa.string()),
            "language_confidence": pa.array([confidence for _, confidence in found], pa.float64()),
        }
        if self._keep is not None:
            rules = [None if self._kept(*one) else "other-language" for one in found]
            columns["drop"] = pa.array(rules, pa.string())
        return columns

    def _kept(self, language: str | None, confidence: float) -> bool:
        assert self._keep is not None
        return language in self._keep and confidence >= self._min_confidence

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """Documents by language, the most frequent first."""
        counts: Counter[str] = Counter()
        for table in found:
            counts.update(code or "unknown" for code in table.column("language").to_pylist())
        return {"languages": dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))}


def detected(text: str) -> tuple[str | None, float]:
    """The main language of a text, as an ISO 639-1 code, and the share of the text in it."""
    try:
        _, _, languages = pycld2.detect(text, bestEffort=True)
    except pycld2.error:
        _, _, languages = pycld2.detect(_REFUSED.sub(" ", text), bestEffort=True)
    _, code, percent, _ = languages[0]
    return (None, 0.0) if code == UNKNOWN else (modern(code), percent / 100)


def build(config: Language, context: Context) -> LanguageDetection:
    """Builds the processor."""
    return LanguageDetection(config)
