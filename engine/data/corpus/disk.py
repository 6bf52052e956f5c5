"""How much disk a preparation needs, told before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.data.records import NamedSource, Rows

_BASE, _STEP = 3.0, 0.4
"""Bytes on the disk for a byte of text: for documents, tokens and shards, and for what each step finds.
Measured: 1.7 for exact deduplication of Python's library, 4.1 for all steps of ``specs/corpus.yaml``
there, and 3.7 for three steps over words in no order, which compress badly."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes that a preparation needs: about so many, or ``at_least`` so many, as some sources do not
    tell."""

    needed: int
    at_least: bool

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'about'} {disk_size(self.needed)} of disk"


def disk_size(count: int) -> str:
    """A number of bytes in MB, from a thousand on in GB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def disk_need(sources: Sequence[NamedSource], steps: int) -> DiskNeed | None:
    """What a stage with so many steps needs; None if no source tells. Raises RunError."""
    sizes = [_size(named) for named in sources]
    known = [size for size in sizes if size is not None]
    if not known:
        return None
    return DiskNeed(int(sum(known) * (_BASE + _STEP * steps)), len(known) < len(sizes))


def _size(named: NamedSource) -> int | None:
    rows = Rows(named)
    total = 0
    for part in rows.parts():
        size = rows.size(part)
        if size is None:
            return None
        total += size
    return total
