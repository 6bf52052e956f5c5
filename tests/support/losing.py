"""Sources and processors that take their process with them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from engine import Bad, DataSource, Processor, Record, Text


def _suffer(text: str) -> None:
    if "crash" in text:
        ctypes.string_at(0)  # a segmentation fault
    if "hang" in text:
        ctypes.PyDLL(None).pause()  # holds the interpreter: no exception can interrupt it
    if "memory" in text:
        os.kill(os.getpid(), signal.SIGKILL)  # as a system does that has no memory left


class Fragile(Processor):
    """Annotates texts with their lengths; ``once``: a file whose first reader is killed."""

    def __init__(self, once: Path | None = None) -> None:
        self._once = once

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        if self._once is not None and self._once.exists():
            self._once.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        texts = batch.column("text").to_pylist()
        for text in texts:
            _suffer(text)
        return {"length": pa.array(list(map(len, texts)), pa.int64())}


class FragileSource(DataSource):
    """Texts by number, in parts of so many."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        self._texts = texts
        self._size = size

    def parts(self) -> Sequence[str]:
        starts = range(0, len(self._texts), self._size)
        return [f"{start} {min(start + self._size, len(self._texts))}" for start in starts]

    def split(self, part: str) -> Sequence[str]:
        start, end = map(int, part.split())
        half = (start + end) // 2
        return [part] if half == start else [f"{start} {half}", f"{half} {end}"]

    def records(self, part: str) -> Iterator[Record | Bad]:
        for number in range(*map(int, part.split())):
            _suffer(self._texts[number])
            yield Text(id=str(number), source="fragile", text=self._texts[number])


def made(cls: type, *args: object, **settings: object) -> object:
    """In a worker; a source's ``say`` is not used."""
    return cls(*settings.get("given", args))  # type: ignore[misc]
