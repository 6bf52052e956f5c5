"""A corpus: documents of sources in parts, what processors make of them, and what is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import replace
from functools import partial, reduce
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.contracts.data import Processor
from engine.contracts.records import Text
from engine.data.corpus.account import Account
from engine.data.corpus.each import each
from engine.data.corpus.executors import Means
from engine.data.corpus.pace import Pace
from engine.data.corpus.parts import (
    DOCUMENT,
    Part,
    divided,
    kept_documents,
    named_source,
    records_in,
)
from engine.data.corpus.reading import read
from engine.data.corpus.samples import Samples
from engine.data.corpus.steps import NamedProcessor, Progress, carried_out
from engine.data.corpus.store import Store, key_of
from engine.data.corpus.verbs import PartedCorpus
from engine.data.holdout import Answered, is_held_out
from engine.data.records import NamedSource, Rows, unreadable

_ACTING = frozenset({"text", "meta", "drop", "_held"})


class Documents:
    """The documents of several sources, in ``parts``; ``rows``: what was read of each source."""

    def __init__(
        self, store: Store, sources: Sequence[NamedSource], progress: Progress, means: Means
    ) -> None:
        """Reads the sources, but for parts that were read before. Raises RunError."""
        self._store = store
        self._sources = sources
        self._means = means
        self.steps: list[str] = []
        self._summaries: dict[int, Mapping[str, Any]] = {}
        """What steps say of the corpus, by their numbers."""
        self.parts: list[Part] = []
        self.rows = [Rows(source) for source in sources]
        for number, (named, rows) in enumerate(zip(sources, self.rows, strict=True)):
            progress("read", number, len(sources), named.name)

            def tell(done: int, total: int, number: int = number, name: str = named.name) -> None:
                note = f"{name}: part {done:,} of {total:,}"
                progress("read", number + min(done / total, 0.99), len(sources), note)

            keys = read(store, named, rows, means, tell)
            self.parts += [
                Part(number, key, priority=named.priority, name=named.name) for key in keys
            ]
        progress("read", len(sources), len(sources), "")
        count = sum(store.rows(part.documents) for part in self.parts)
        size = sum(store.bytes_of(part.documents, "text") for part in self.parts)
        self._pace = Pace(progress, count, size)

    def carry_out(self, named: NamedProcessor) -> None:
        """Applies a processor or step to all documents. Raises RunError."""
        self.steps.append(named.name)
        self.parts = carried_out(self._store, self.parts, named, self._pace, self._means)
        summary = named.processor.summary(found_by_last(self._store, self.parts))
        if summary:
            self._summaries[len(self.steps) - 1] = summary

    def hold_out(self, share: float, seed: int, answered: Answered, heeds: Sequence[str]) -> None:
        """Marks documents as held out, and drops copies of them, texts that have an ``answered`` prompt
        and its answer, and what no tokenizer takes. ``heeds`` names what ``answered`` is made of.

        A document that is held out with its group may have a copy in another group, read before it:
        hence the second pass.
        """
        self._pass("readable", [], partial(each, _readable))
        self._pass("holdout", [share, seed], partial(_HoldOut, share, seed))
        held = {_digest(document.text) for part in self.held() for document in part}
        told = [sorted(digest.hex() for digest in held), *heeds]
        self._pass("copies", told, partial(_Copies, held, answered))

    def _pass(self, name: str, told: Sequence[Any], make: Callable[[], Processor]) -> None:
        """A processor of the engine's own, which depends on what is told; without a bar."""
        self.steps.append(name)
        named = NamedProcessor(name, key_of(name, *told), make(), make)
        self.parts = carried_out(self._store, self.parts, named, means=self._means)

    def held(self) -> Iterator[Iterator[Text]]:
        """The documents that are held out, part by part."""
        for number, part in enumerate(self.parts):
            yield records_in(divided(kept_documents(self._store, part, number))[0])

    def trained(self, source: int) -> Iterator[pa.Table]:
        """The documents of a source that training gets, part by part."""
        for number, part in enumerate(self.parts):
            if part.source == source:
                yield divided(kept_documents(self._store, part, number))[1]

    def corpus(self, source: int, key: str, tell: Callable[[int, int], None]) -> PartedCorpus:
        """The verbs over a source's documents that no step has dropped, also those held out; see
        :class:`PartedCorpus`."""
        parts = [replace(part, name="") for part in self.parts if part.source == source]
        return PartedCorpus(self._store, parts, key, tell, self._means.executor)

    def starts(self, source: int) -> list[int]:
        """The numbers of documents that were read before each part of a source."""
        parts = [part for part in self.parts if part.source == source]
        read = accumulate((self._store.rows(part.documents) for part in parts), initial=0)
        return list(read)[:-1]

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

    def told(self) -> dict[str, Any]:
        """What steps say of the corpus, and samples of what each rule has dropped; each is left out
        where there is nothing to tell."""
        samples = Samples(self.steps)
        for number, part in enumerate(self.parts):
            samples.add(self._store, part, number)
        decided = {n: summary.get("decided_by", {}) for n, summary in self._summaries.items()}
        told = {
            "processors": [{"step": self.steps[n], **s} for n, s in self._summaries.items()],
            "samples": samples.told(self._store, self.parts, decided),
        }
        return {name: value for name, value in told.items() if value}

    def card(self, source: int) -> dict[str, Any]:
        """What became of a source's documents."""
        named, rows = self._sources[source], self.rows[source]
        account = Account(self.steps)
        licenses, held, size = Counter[str](), Counter[str](), 0
        for number, part in enumerate(self.parts):
            if part.source != source:
                continue
            account.add(self._store, part)
            out, trained = divided(kept_documents(self._store, part, number))
            held.update(documents=out.num_rows, bytes=_bytes(out))
            licenses.update(one or "unknown" for one in trained.column("license").to_pylist())
            size += _bytes(trained)
        dropped = account.dropped + rows.bad
        return {
            "source": named.name,
            "read": rows.read,
            "dropped": dict(dropped),
            "bad_rows": rows.places(),
            "held_out": held["documents"],
            "documents": licenses.total(),
            "bytes": size,
            "licenses": dict(licenses),
            "account": {
                "read_bytes": account.read["bytes"],
                "held_out_bytes": held["bytes"],
                "steps": account.steps(),
                **({"flags": flags} if (flags := account.flags()) else {}),
            },
        }


def found_by_last(store: Store, parts: Sequence[Part]) -> Iterator[pa.Table]:
    """What the last step gave, part by part: its columns of the documents for which it gave something,
    with their ``id`` and ``source``."""
    for part in parts:
        columns = store.read(part.columns[-1])
        given = [pc.is_valid(columns.column(name)) for name in columns.column_names]
        if given:
            beside = named_source(store.read_columns(part.documents, ["id", "source"]), part)
            for name in columns.column_names:
                beside = beside.append_column(name, columns.column(name))
            yield beside.filter(reduce(pc.or_, given))


def _bytes(documents: pa.Table) -> int:
    return int(pc.sum(pc.binary_length(documents.column("text"))).as_py() or 0)


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


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
