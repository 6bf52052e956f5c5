"""Processor ``pii``: finds personal and secret data, and masks it or drops its documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine import Context, Processor
from engine_corpus.judge.scores.columns import series_of
from engine_corpus.judge.scores.config import KINDS, PII, Kind
from engine_corpus.judge.scores.pii import addresses, emails, internet_addresses, keys, phones

Span = tuple[int, int]
_FINDERS: Mapping[Kind, tuple[str, Callable[[str], Iterator[Span]]]] = {
    "key": (keys.HINT, keys.keys),
    "email": (emails.HINT, emails.emails),
    "ip": (internet_addresses.HINT, internet_addresses.internet_addresses),
    "phone": (phones.HINT, phones.phones),
    "address": (addresses.HINT, addresses.addresses),
}
"""Of each kind what finds it. Of two spans that overlap, that of the earlier kind stays, whose form is
more certain."""


class PIIProcessor(Processor):
    """Gives ``pii_spans``, JSON: a list of ``kind``, ``start`` and ``end``, positions of characters in
    the text as it was; null where nothing is found. Masks, drops by the rule ``pii``, or neither."""

    def __init__(self, config: PII) -> None:
        self._action = config.action
        self._kinds = config.kinds

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`."""
        texts = batch.column("text").to_pylist()
        found = _found(batch.column("text"), texts, self._kinds)
        columns = {
            "pii_spans": pa.array([_told(spans) if spans else None for spans in found], pa.string())
        }
        if self._action == "mask":
            masks = [
                masked(text, spans) if spans else None
                for text, spans in zip(texts, found, strict=True)
            ]
            columns["text"] = pa.array(masks, pa.large_string())
        elif self._action == "drop":
            columns["drop"] = pa.array(["pii" if spans else None for spans in found], pa.string())
        return columns

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """The number of spans of each kind, and of documents with some."""
        spans, documents = Counter[str](), 0
        for table in found:
            for told in table.column("pii_spans").drop_null().to_pylist():
                documents += 1
                spans.update(span["kind"] for span in json.loads(told))
        return {"documents": documents, "spans": {kind: spans[kind] for kind in self._kinds}}


def build(config: PII, context: Context) -> PIIProcessor:
    """Builds the processor."""
    return PIIProcessor(config)


def spans_in(text: str, kinds: Collection[Kind] = KINDS) -> list[tuple[Kind, int, int]]:
    """What is found in a text, in the order of its places: kinds, starts and ends, without overlap."""
    ranks = {kind: rank for rank, kind in enumerate(_FINDERS)}
    found = sorted(
        (start, ranks[kind], end, kind) for kind in kinds for start, end in _FINDERS[kind][1](text)
    )
    taken: list[tuple[Kind, int, int]] = []
    for start, rank, end, kind in found:
        if taken and start < taken[-1][2]:
            if rank >= ranks[taken[-1][0]]:
                continue
            taken.pop()
        taken.append((kind, start, end))
    return taken


def masked(text: str, spans: Sequence[tuple[Kind, int, int]]) -> str:
    """The text with a placeholder such as ``<EMAIL>`` in the place of each span."""
    pieces, at = [], 0
    for kind, start, end in spans:
        pieces += [text[at:start], f"<{kind.upper()}>"]
        at = end
    return "".join([*pieces, text[at:]])


def _found(
    given: pa.Array, texts: Sequence[str], kinds: Collection[Kind]
) -> list[list[tuple[Kind, int, int]]]:
    """What is found in each text; only what a pattern of a faster engine hints at is looked for."""
    series = series_of(given)
    hinted: list[list[Kind]] = [[] for _ in texts]
    for kind in kinds:
        hint, _ = _FINDERS[kind]
        for at in series.str.contains(hint).arg_true():
            hinted[at].append(kind)
    return [
        spans_in(text, likely) if likely else [] for text, likely in zip(texts, hinted, strict=True)
    ]


def _told(spans: Sequence[tuple[Kind, int, int]]) -> str:
    return json.dumps([{"kind": kind, "start": start, "end": end} for kind, start, end in spans])
