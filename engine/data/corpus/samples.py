"""A few of the documents that each rule has dropped, with the values that decided."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow.compute as pc

from engine.data.corpus.parts import Part, named_source
from engine.data.corpus.provenance import plain_values
from engine.data.corpus.store import Store

_OF_A_RULE = 20
_SHOWN = 300
"""Characters of a text that are shown."""


@dataclass(frozen=True, order=True, slots=True)
class _Fallen:
    """A document by its address; ``order`` is the hash of its id, by which samples are chosen."""

    order: bytes
    part: int
    row: int


class Samples:
    """Chooses documents by a hash of their ids, so that the choice depends on nothing else."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._names = steps
        self._chosen: dict[tuple[int, str], list[_Fallen]] = defaultdict(list)

    def add(self, store: Store, part: Part, number: int) -> None:
        """Chooses among the documents of a part with the columns of all steps."""
        ids = store.read_columns(part.documents, ["id"]).column("id")
        alive = np.ones(len(ids), bool)
        for step, key in enumerate(part.columns):
            columns = store.read_columns(key, ["drop"])
            if "drop" not in columns.column_names:
                continue
            rules = columns.column("drop")
            gone = pc.is_valid(rules).to_numpy() & alive
            alive &= ~gone
            rows = np.flatnonzero(gone)
            names, broken = ids.take(rows).to_pylist(), rules.take(rows).to_pylist()
            for row, name, rule in zip(rows.tolist(), names, broken, strict=True):
                chosen = self._chosen[step, rule]
                order = blake2b(name.encode(), digest_size=8).digest()
                if len(chosen) < _OF_A_RULE or order < chosen[-1].order:
                    insort(chosen, _Fallen(order, number, row))
                    del chosen[_OF_A_RULE:]

    def told(
        self,
        store: Store,
        parts: Sequence[Part],
        decided_by: Mapping[int, Mapping[str, Sequence[str]]],
    ) -> list[dict[str, Any]]:
        """The samples of each step and rule as plain data. ``decided_by``: for steps by number, the
        columns that decided, by rule; without them all of the step's columns are shown."""
        shown: dict[_Fallen, dict[str, Any]] = {}
        for (number, step), chosen in self._by_table().items():
            rows = [one.row for _, one in chosen]
            found = store.read(parts[number].columns[step]).take(rows).to_pylist()
            read = store.read_columns(parts[number].documents, ["id", "source", "text"]).take(rows)
            documents = named_source(read, parts[number]).to_pylist()
            for (rule, one), values, document in zip(chosen, found, documents, strict=True):
                names = decided_by.get(step, {}).get(rule)
                shown[one] = _shown(document, values, names)
        return [
            {
                "step": self._names[step],
                "rule": rule,
                "documents": [shown[one] for one in chosen],
            }
            for (step, rule), chosen in sorted(self._chosen.items())
        ]

    def _by_table(self) -> dict[tuple[int, int], list[tuple[str, _Fallen]]]:
        """What was chosen, with its rule, by part and step, so that each table is read once."""
        found = defaultdict(list)
        for (step, rule), chosen in self._chosen.items():
            for one in chosen:
                found[one.part, step].append((rule, one))
        return found


def _shown(
    document: Mapping[str, Any], found: dict[str, Any], names: Sequence[str] | None
) -> dict[str, Any]:
    values = plain_values(found)
    if names is not None:
        values = {name: value for name, value in values.items() if name in names}
    return {
        "id": document["id"],
        "source": document["source"],
        "text": document["text"][:_SHOWN],
        "found": values,
    }
