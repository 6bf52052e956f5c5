"""Compares what each rule drops of the documents that mention a group with what it drops of all.

A difference is no proof of unfairness: documents that mention a group may differ in other ways. It says
where to look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine_corpus.judge.scores.mentions import PREFIX

_QUANTILE = 1.959963984540054
"""Of the normal distribution at 0.975: two-sided intervals of 95 %."""
_COUNTS = pa.schema(
    [
        ("rule", pa.string()),
        ("group", pa.string()),
        ("dropped", pa.int64()),
        ("documents", pa.int64()),
    ]
)


def counted(documents: Iterable[pa.Table], rules: Sequence[str]) -> pa.Table:
    """Counts for :func:`dropped_shares` from tables with ``drop`` and the columns ``mentions_NAME``,
    such as those of the parts of a corpus.

    A document without a value in ``mentions_NAME`` was dropped before it was looked at, and counts
    neither for a group nor for all.
    """
    totals: dict[str | None, int] = {}
    dropped: dict[tuple[str, str | None], int] = {}
    for table in documents:
        names = [name for name in table.column_names if name.startswith(PREFIX)]
        if not names or not table.num_rows:
            continue
        seen = table.filter(pc.is_valid(table.column(names[0])))
        groups = {None: seen, **{name[len(PREFIX) :]: seen.filter(seen[name]) for name in names}}
        for group, found in groups.items():
            totals[group] = totals.get(group, 0) + found.num_rows
            for one in found.column("drop").value_counts().to_pylist():
                key = (one["values"], group)
                dropped[key] = dropped.get(key, 0) + one["counts"]
    rows = [
        {"rule": rule, "group": group, "dropped": dropped.get((rule, group), 0), "documents": total}
        for rule in rules
        for group, total in totals.items()
    ]
    return pa.Table.from_pylist(rows, _COUNTS)


def dropped_shares(counts: pa.Table) -> list[dict[str, Any]]:
    """For each rule the share that it dropped of all documents, and of each group's.

    ``counts``: rows with ``rule``, ``group`` (null for all documents), ``dropped`` and ``documents``.
    Returns for each rule, in the order of its first row, ``rule``, ``all`` and ``groups``, by name;
    a share comes with its Wilson interval of 95 % and the counts, and that of a group with ``ratio``,
    its share divided by that of all (null where none was dropped), and ``differs``, whether the two
    intervals do not overlap. Raises ValueError for a rule without a row for all documents.
    """
    rules: dict[str, dict[str | None, dict[str, Any]]] = {}
    for row in counts.to_pylist():
        found = _share(row["dropped"], row["documents"])
        rules.setdefault(row["rule"], {})[row["group"]] = found
    told = []
    for rule, shares in rules.items():
        if None not in shares:
            raise ValueError(f"rule '{rule}' has no row with null as group, for all documents")
        whole = shares[None]
        groups = {
            name: {**one, **_compared(one, whole)}
            for name, one in shares.items()
            if name is not None
        }
        told.append({"rule": rule, "all": whole, "groups": groups})
    return told


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The interval of 95 % of a share (Wilson 1927, Journal of the American Statistical Association
    22); from 0 to 1 without trials."""
    if not trials:
        return 0.0, 1.0
    share, square = successes / trials, _QUANTILE**2
    centre = share + square / (2 * trials)
    half = _QUANTILE * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    scale = 1 + square / trials
    low = (centre - half) / scale if successes else 0.0
    high = (centre + half) / scale if successes < trials else 1.0
    return low, high


def _share(dropped: int, documents: int) -> dict[str, Any]:
    low, high = wilson(dropped, documents)
    share = dropped / documents if documents else None
    return {"dropped": dropped, "documents": documents, "share": share, "low": low, "high": high}


def _compared(group: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    known = group["share"] is not None and whole["share"]
    return {
        "ratio": group["share"] / whole["share"] if known else None,
        "differs": group["low"] > whole["high"] or group["high"] < whole["low"],
    }
