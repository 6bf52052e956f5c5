"""How many documents a step has seen, and how fast it goes, for its progress bar."""

from __future__ import annotations

import time

from engine.data.corpus.steps import Progress


class Pace:
    """Tells progress with a note, for a corpus of so many ``documents`` and bytes."""

    def __init__(self, progress: Progress, documents: int, size: int) -> None:
        self._progress = progress
        self._documents, self._size = documents, size
        self._begun: dict[str, float] = {}
        self._last = time.monotonic()

    def __call__(self, what: str, done: float, total: float, note: str) -> None:
        """Tells that of ``what`` so much is ``done``; it began when anything was told last."""
        now = time.monotonic()
        seconds = now - self._begun.setdefault(what, self._last)
        self._last = now
        share = done / total if total else 1.0
        told = f"{share * self._documents:,.0f} documents"
        if seconds > 0:
            told += f", {share * self._size / seconds / 1e6:,.1f} MB/s"
        self._progress(what, done, total, told)
