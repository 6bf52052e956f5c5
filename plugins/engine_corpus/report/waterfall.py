"""What became of a corpus's documents and bytes, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """What a step did to a source: ``documents`` and ``bytes`` that it removed are below 0."""

    source: str
    step: str
    what: str
    documents: int
    bytes: int


def waterfall(card: Mapping[str, Any]) -> Sequence[Row]:
    """The rows of all sources: what was read, what each rule dropped and each step changed, what was
    held out, and what was kept. The numbers of a source add up to what was kept."""
    return [row for source in card["sources"] for row in _rows(source)]


def _rows(source: Mapping[str, Any]) -> Iterator[Row]:
    name, account = source["source"], source["account"]
    steps = account["steps"]
    dropped = sum(one["documents"] for step in steps for one in step["dropped"].values())
    read = source["documents"] + source["held_out"] + dropped
    yield Row(name, "read", "", read, account["read_bytes"])
    for step in steps:
        for rule, one in step["dropped"].items():
            yield Row(name, step["step"], rule, -one["documents"], -one["bytes"])
        changed = step["changed"]
        if changed["documents"]:
            what = f"changed {changed['documents']:,}"
            yield Row(name, step["step"], what, 0, changed["bytes"])
    yield Row(name, "held out", "", -source["held_out"], -account["held_out_bytes"])
    yield Row(name, "kept", "", source["documents"], source["bytes"])


def bad_rows(source: Mapping[str, Any]) -> dict[str, int]:
    """Rows of a source that made no document, by reason."""
    left = dict(source["dropped"])
    for step in source["account"]["steps"]:
        for rule, one in step["dropped"].items():
            left[rule] = left.get(rule, 0) - one["documents"]
    return {reason: count for reason, count in left.items() if count > 0}
