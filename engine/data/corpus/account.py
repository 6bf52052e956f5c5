"""What each step has done to the documents of a source, in documents and bytes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.data.corpus.parts import Part
from engine.data.corpus.store import Store

Mask = NDArray[np.bool_]


class Account:
    """Counts over parts, for the named ``steps`` in their order: the ``documents`` and ``bytes`` that
    reach each, those that it drops by rule, and by how many bytes it changes the others."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._names = steps
        self._reached = [Counter[str]() for _ in steps]
        self._dropped = [Counter[str]() for _ in steps]
        self._bytes = [Counter[str]() for _ in steps]
        self._flags: dict[str, Counter[str]] = defaultdict(Counter)
        self.read = Counter[str]()
        self.kept = Counter[str]()

    def add(self, store: Store, part: Part) -> None:
        """Counts a part with the columns of all steps."""
        sizes = _sizes(store.read_columns(part.documents, ["text"]))
        alive = np.ones(len(sizes), bool)
        flags: dict[str, tuple[Mask, Mask]] = {}
        self.read.update(documents=len(sizes), bytes=int(sizes.sum()))
        for number, key in enumerate(part.columns):
            self._reached[number].update(documents=int(alive.sum()), bytes=int(sizes[alive].sum()))
            columns = store.read_columns(key, ["drop", "text"])
            flags |= _flags(store, key)
            if "drop" in columns.column_names:
                rules = columns.column("drop")
                gone = pc.is_valid(rules).to_numpy() & alive
                alive &= ~gone
                for rule, size in zip(rules.filter(gone).to_pylist(), sizes[gone], strict=True):
                    self._dropped[number][rule] += 1
                    self._bytes[number][rule] += int(size)
                self._count_flags(flags, rules, gone)
            if "text" in columns.column_names:
                changed = pc.is_valid(columns.column("text")).to_numpy() & alive
                new = _sizes(columns.select(["text"]))
                self._reached[number]["changed"] += int(changed.sum())
                self._reached[number]["change"] += int((new - sizes)[changed].sum())
                sizes = np.where(changed, new, sizes)
        self.kept.update(documents=int(alive.sum()), bytes=int(sizes[alive].sum()))
        for name, (known, true) in flags.items():
            self._flags[name].update(documents=int(known.sum()), flagged=int(true.sum()))

    def _count_flags(
        self, flags: Mapping[str, tuple[Mask, Mask]], rules: pa.ChunkedArray, gone: Mask
    ) -> None:
        for name, (known, true) in flags.items():
            for kind, those in (("dropped", known), ("dropped flagged", true)):
                for one in rules.filter(gone & those).value_counts().to_pylist():
                    self._flags[name][f"{kind} {one['values']}"] += one["counts"]

    def flags(self) -> dict[str, dict[str, Any]]:
        """Of each annotation that is true or false: the number of ``documents`` that have it and of
        those ``flagged`` true, and how many of both each rule has dropped since, by rule."""
        rules = sorted(self.dropped)
        return {
            name: {
                "documents": counts["documents"],
                "flagged": counts["flagged"],
                "dropped": {
                    rule: {
                        "documents": counts[f"dropped {rule}"],
                        "flagged": counts[f"dropped flagged {rule}"],
                    }
                    for rule in rules
                },
            }
            for name, counts in sorted(self._flags.items())
        }

    @property
    def dropped(self) -> Counter[str]:
        """Dropped documents by rule, over all steps."""
        return sum(self._dropped, Counter())

    def steps(self) -> list[dict[str, Any]]:
        """The steps as plain data."""
        return [
            {
                "step": name,
                "documents": reached["documents"],
                "bytes": reached["bytes"],
                "dropped": {
                    rule: {"documents": count, "bytes": size[rule]}
                    for rule, count in sorted(dropped.items())
                },
                "changed": {"documents": reached["changed"], "bytes": reached["change"]},
            }
            for name, reached, dropped, size in zip(
                self._names, self._reached, self._dropped, self._bytes, strict=True
            )
        ]


def _flags(store: Store, key: str) -> dict[str, tuple[Mask, Mask]]:
    """Of each public column of a table that is true or false: where it has a value, and where true."""
    names = [
        field.name
        for field in store.schema(key)
        if pa.types.is_boolean(field.type) and not field.name.startswith("_")
    ]
    table = store.read_columns(key, names) if names else pa.table({})
    return {
        name: (
            pc.is_valid(table.column(name)).to_numpy(),
            pc.fill_null(table.column(name), False).to_numpy(),
        )
        for name in names
    }


def _sizes(texts: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes of each text; 0 where there is none."""
    lengths = pc.fill_null(pc.binary_length(texts.column("text")), 0)
    found: np.ndarray[Any, np.dtype[np.int64]] = lengths.to_numpy().astype(np.int64)
    return found
