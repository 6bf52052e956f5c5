"""A step that searches for given items, and what it makes of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine import BenchmarkTexts, ItemTexts, Text
from engine.testing import StandAloneContext, processed


@pytest.fixture
def outcomes() -> Callable[..., list[str | None]]:
    """The rule that drops each text, or None, in a search for items of one benchmark."""

    def outcomes(
        texts: Sequence[str],
        items: Sequence[ItemTexts],
        *,
        parts: int = 1,
        sources: Sequence[str] | None = None,
        **fields: Any,
    ) -> list[str | None]:
        context = StandAloneContext(benchmarks=[BenchmarkTexts("quiz", tuple(items))])
        step = context.build("corpus-step", {"type": "decontaminate", **fields})
        given = sources or ["texts"] * len(texts)
        records = [
            Text(id=str(number), source=source, text=text)
            for number, (text, source) in enumerate(zip(texts, given, strict=True))
        ]
        found = processed(step, records, parts=parts)
        return [one if isinstance(one, str) else None for one in found]

    return outcomes
