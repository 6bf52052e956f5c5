"""A corpus: documents of sources in parts, what processors make of them, and what is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.contracts.data import Processor
from engine.contracts.records import Bad, Record, Text
from engine.data.each import each
from engine.data.holdout import Answered, is_held_out
from engine.data.parts import (
    DOCUMENT,
    Part,
    all_documents,
    kept_documents,
    kept_of,
    records_in,
    table_of,
)
from engine.data.records import NamedSource, Rows, unreadable
from engine.data.steps import NamedProcessor, Progress, carried_out
from engine.data.store import Store, key_of
from engine.errors import RunError

_ACTING = frozenset({"text", "meta", "drop", "_held"})
_PART = 32 * 2**20
"""Characters of documents that make a part, unless a single one has more."""


class Documents:
    """The documents of several sources, in ``parts``; ``rows``: what was read of each source."""

    def __init__(self, store: Store, sources: Sequence[NamedSource], progress: Progress) -> None:
        """Reads the sources, but for parts that were read before. Raises RunError."""
        self._store = store
        self._progress = progress
        self._sources = sources
        self.parts: list[Part] = []
        self.rows = [Rows(source) for source in sources]
        for number, (named, rows) in enumerate(zip(sources, self.rows, strict=True)):
            progress("read", number, len(sources), named.name)
            for part in rows.parts():
                self.parts += self._read(number, rows, part)
            rows.check()
        progress("read", len(sources), len(sources), "")

    def _read(self, number: int, rows: Rows, part: str) -> list[Part]:
        named = self._sources[number]
        key = key_of("documents", named.key, named.name, part, rows.version(part))
        note = self._store.note(key)
        keys = [] if note is None else [key_of(key, n) for n in range(note["parts"])]
        if note is None or not all(map(self._store.has, keys)):
            note, keys = self._read_anew(number, key, part)
        rows.add(note["read"], note["bad"], [Bad(**bad) for bad in note["first"]])
        return [Part(number, one) for one in keys]

    def _read_anew(self, number: int, key: str, part: str) -> tuple[dict[str, Any], list[str]]:
        named = self._sources[number]
        rows = Rows(named, part)
        keys: list[str] = []
        waiting: list[Text] = []
        size = 0

        def write() -> None:
            keys.append(key_of(key, len(keys)))
            self._store.write(keys[-1], table_of(waiting))
            waiting.clear()

        for record in rows:
            if not isinstance(record, Text):
                raise _no_text(record)
            waiting.append(record)
            size += len(record.text)
            if rows.read % 64 == 0:
                note = f"{named.name}: {rows.read:,} records"
                self._progress("read", number, len(self._sources), note)
            if size >= _PART:
                write()
                size = 0
        write()
        first = [asdict(bad) for bad in rows.first]
        told = {"parts": len(keys), "read": rows.read, "bad": dict(rows.bad), "first": first}
        self._store.write_note(key, told)
        return told, keys

    def carry_out(self, named: NamedProcessor) -> None:
        """Applies a processor or step to all documents. Raises RunError."""
        self.parts = carried_out(self._store, self.parts, named, self._progress)

    def hold_out(self, share: float, seed: int, answered: Answered, heeds: Sequence[str]) -> None:
        """Marks documents as held out, and drops copies of them, texts that have an ``answered`` prompt
        and its answer, and what no tokenizer takes. ``heeds`` names what ``answered`` is made of.

        A document that is held out with its group may have a copy in another group, read before it:
        hence the second pass.
        """
        self._pass("readable", [], each(_readable))
        self._pass("holdout", [share, seed], _HoldOut(share, seed))
        held = {_digest(document.text) for part in self.held() for document in part}
        told = [sorted(digest.hex() for digest in held), *heeds]
        self._pass("copies", told, _Copies(held, answered))

    def _pass(self, name: str, told: Sequence[Any], processor: Processor) -> None:
        """A processor of the engine's own, which depends on what is told; without a bar."""
        named = NamedProcessor(name, key_of(name, *told), processor)
        self.parts = carried_out(self._store, self.parts, named)

    def held(self) -> Iterator[Iterator[Text]]:
        """The documents that are held out, part by part."""
        for number, part in enumerate(self.parts):
            yield records_in(_divided(kept_documents(self._store, part, number))[0])

    def trained(self, source: int) -> Iterator[pa.Table]:
        """The documents of a source that training gets, part by part."""
        for number, part in enumerate(self.parts):
            if part.source == source:
                yield _divided(kept_documents(self._store, part, number))[1]

    def annotations(self, source: int) -> pa.Schema:
        """The columns of a source's documents, but for their texts and what acts."""
        given = [
            self._store.schema(key)
            for part in self.parts
            if part.source == source
            for key in part.columns
        ]
        found = pa.unify_schemas([DOCUMENT, *given], promote_options="permissive")
        return pa.schema([field for field in found if field.name not in _ACTING])

    def card(self, source: int) -> dict[str, Any]:
        """What became of a source's documents. Raises RunError if training gets none."""
        named, rows = self._sources[source], self.rows[source]
        dropped, licenses, held, size = Counter(rows.bad), Counter[str](), 0, 0
        for number, part in enumerate(self.parts):
            if part.source != source:
                continue
            table = all_documents(self._store, part, number)
            dropped.update(r for r in table.column("drop").to_pylist() if r is not None)
            out, trained = _divided(kept_of(table))
            held += out.num_rows
            licenses.update(one or "unknown" for one in trained.column("license").to_pylist())
            size += pc.sum(pc.binary_length(trained.column("text"))).as_py() or 0
        if not licenses:
            raise RunError(
                f"source '{named.name}' gave no document to train on: {rows.read} read, "
                f"{dropped.total()} dropped {dict(dropped)}, {held} held out",
                hint="check its paths, the processors and `holdout`",
            )
        return {
            "source": named.name,
            "read": rows.read,
            "dropped": dict(dropped),
            "bad_rows": rows.places(),
            "held_out": held,
            "documents": licenses.total(),
            "bytes": size,
            "licenses": dict(licenses),
        }


def _divided(kept: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Documents that are held out, and those that training gets."""
    if not kept.num_rows:
        return kept, kept
    held = kept.column("_held")
    return kept.filter(held), kept.filter(pc.invert(held))


class _HoldOut(Processor):
    """Annotates whether documents are held out."""

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._seed = share, seed

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`."""
        held = [is_held_out(document, self._share, self._seed) for document in records_in(batch)]
        return {"_held": pa.array(held)}


class _Copies(Processor):
    """Drops copies of held-out documents, and prompts with their answers, from what is not held out."""

    def __init__(self, held: AbstractSet[bytes], answered: Answered) -> None:
        self._held, self._answered = held, answered

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`."""
        texts, held = batch.column("text").to_pylist(), batch.column("_held").to_pylist()
        rules = [None if out else self._rule(text) for text, out in zip(texts, held, strict=True)]
        return {"drop": pa.array(rules, pa.string())}

    def _rule(self, text: str) -> str | None:
        if _digest(text) in self._held:
            return "held-out-elsewhere"
        return "answers-what-is-held-out" if self._answered.in_text(text) else None


def _readable(document: Text) -> Text | str:
    """Drops empty texts, and those that a processor has made unreadable."""
    if not document.text.strip():
        return "empty"
    bad = unreadable(document)
    return document if bad is None else bad.reason


def _no_text(record: Record) -> RunError:
    return RunError(
        f"record '{record.id}' of '{record.source}' is {record.schema}, but prepare takes text",
        hint="give such records to a train stage as its `data`, or say `records: text`",
    )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
