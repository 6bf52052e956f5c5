"""Compares what each rule drops of the documents that mention a group with what it drops of all.

A difference is no proof of unfairness: documents that mention a group may differ in other ways. It says
where to look.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from engine_corpus.judge.scores.mentions import PREFIX

_QUANTILE = 1.959963984540054
"""Of the normal distribution at 0.975: two-sided intervals of 95 %."""


def bias(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The shares of :func:`dropped_shares` of a corpus's card, over all sources, for the groups that
    the processor ``mentions`` has looked for. A document that was dropped before counts neither for a
    group nor for all."""
    counts: dict[tuple[str, str | None], list[int]] = {}
    for source in card["sources"]:
        flags = source["account"].get("flags", {})
        groups = {name: one for name, one in flags.items() if name.startswith(PREFIX)}
        for number, (name, flag) in enumerate(groups.items()):
            for rule, dropped in flag["dropped"].items():
                group = counts.setdefault((rule, name.removeprefix(PREFIX)), [0, 0])
                group[0] += dropped["flagged"]
                group[1] += flag["flagged"]
                if number == 0:
                    whole = counts.setdefault((rule, None), [0, 0])
                    whole[0] += dropped["documents"]
                    whole[1] += flag["documents"]
    return dropped_shares(
        [
            {"rule": rule, "group": group, "dropped": dropped, "documents": documents}
            for (rule, group), (dropped, documents) in sorted(
                counts.items(), key=lambda one: (one[0][0], one[0][1] or "")
            )
        ]
    )


def dropped_shares(counts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each rule the share that it dropped of all documents, and of each group's.

    ``counts``: rows with ``rule``, ``group`` (null for all documents), ``dropped`` and ``documents``.
    Returns for each rule, in the order of its first row, ``rule``, ``all`` and ``groups``, by name;
    a share comes with its Wilson interval of 95 % and the counts, and that of a group with ``ratio``,
    its share divided by that of all (null where none was dropped), and ``differs``, whether the two
    intervals do not overlap. Raises ValueError for a rule without a row for all documents.
    """
    rules: dict[str, dict[str | None, dict[str, Any]]] = {}
    for row in counts:
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
