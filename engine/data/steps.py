"""Applies a stage's processors and steps to the parts of a corpus, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.contracts.data import CorpusStep, Processor
from engine.data.corpus import PartedCorpus
from engine.data.parts import ADDRESS, Part, kept_documents, scattered
from engine.data.records import blaming
from engine.data.store import Store, key_of

Progress = Callable[[str, float, float, str], None]
"""What is done, how much of how much, and a note."""
_BATCH = 1000
"""Documents that a processor gets at once."""


@dataclass(frozen=True, slots=True)
class NamedProcessor:
    """A processor or step, its name in messages, and a key of what it is: type, settings, version."""

    name: str
    key: str
    processor: Processor | CorpusStep


def carried_out(
    store: Store, parts: Sequence[Part], named: NamedProcessor, progress: Progress = lambda *_: None
) -> list[Part]:
    """The parts with the step's columns, computed where they are missing. Raises RunError."""
    processor = named.processor
    with blaming(f"processor '{named.name}'"):
        if isinstance(processor, CorpusStep):
            verbs = _counted(named.name, progress)
            corpus = PartedCorpus(store, parts, named.key, verbs)
            return corpus.with_columns(processor.run(corpus))
        made = [part.with_columns(key_of("columns", part.key, named.key)) for part in parts]
        missing = [number for number, part in enumerate(made) if not store.has(part.columns[-1])]
        for done, number in enumerate(missing):
            progress(named.name, done, len(missing), "")
            documents = kept_documents(store, parts[number], number)
            columns = scattered(_mapped(processor, documents), store.rows(parts[number].documents))
            store.write(made[number].columns[-1], columns)
        progress(named.name, 1, 1, "")
        return made


def _mapped(processor: Processor, documents: pa.Table) -> pa.Table:
    """What a processor finds, with the addresses of the documents."""
    found = [documents.select(ADDRESS).slice(0, 0)]
    for batch in documents.combine_chunks().to_batches(max_chunksize=_BATCH):
        columns = processor.columns(batch.drop_columns(list(ADDRESS)))
        for name, values in columns.items():
            _check(name, values, batch.num_rows)
        addresses = {name: batch.column(name) for name in ADDRESS}
        found.append(pa.table({**columns, **addresses}))
    return pa.concat_tables(found, promote_options="permissive")


def _check(name: str, values: object, count: int) -> None:
    """Raises TypeError where a processor gave no array of so many values, or an address."""
    if name in ADDRESS:
        raise TypeError(f"it gave '{name}', a name that the engine uses itself")
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        raise TypeError(f"it gave {values!r:.60} as '{name}', which is not a pa.Array")
    if len(values) != count:
        raise TypeError(f"it gave {len(values)} values of '{name}' for {count} documents")


def _counted(name: str, progress: Progress) -> Callable[[int, int], None]:
    """Progress of a step's verbs, each a bar of its own."""
    verbs = 0

    def tell(done: int, total: int) -> None:
        nonlocal verbs
        verbs += done == 1
        progress(f"{name}, {verbs}", done, total, "")

    return tell
