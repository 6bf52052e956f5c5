"""Candidates: the regions of documents in which all windows have fingerprints that others have too.

The functions are mapped over a corpus, in this order: `fingerprints`, `counted`, `shared`, `regions`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine_corpus.deduplicate.substring.fingerprints import winnowed
from engine_corpus.deduplicate.substring.words import Integers, blocks, hashes, texts_of

EMPTY = pa.table({})


def integers(table: pa.Table, name: str) -> Integers:
    """A column of integers."""
    found: Integers = table.column(name).to_numpy()
    return found


def fingerprints(documents: pa.Table, words: int, ignore_case: bool) -> pa.Table:
    """Runs of windows with the same fingerprint: ``at``, the place of the document in the table;
    ``first``, the word of the document at which the first window starts; ``windows``, their number."""
    found = []
    for first, block in blocks(texts_of(documents, ignore_case)):
        runs = winnowed(hashes(block), block.texts, words)
        found.append(
            pa.table(
                {
                    "fingerprint": runs.values,
                    "at": runs.text + first,
                    "first": runs.first,
                    "windows": runs.windows,
                }
            )
        )
    table = pa.concat_tables(found)
    part = documents.column("part")[0]
    return table.append_column("part", pa.repeat(part, table.num_rows))


def counted(fingerprints: pa.Table) -> pa.Table:
    """Each fingerprint once, and whether several documents of the part have it."""
    values = fingerprints.column("fingerprint").to_numpy()
    order = np.argsort(values, kind="stable")
    values, at = values[order], integers(fingerprints, "at")[order]
    first, last = _groups(values)
    return pa.table(
        {
            "fingerprint": values[first],
            "several": pa.array(at[first] != at[last]),  # documents are in order
            "part": fingerprints.column("part").slice(0, first.size),
        }
    )


def shared(counts: pa.Table) -> pa.Table:
    """The fingerprints that several documents of the corpus have, for each part that has them."""
    values = counts.column("fingerprint").to_numpy()
    order = np.argsort(values, kind="stable")
    first, last = _groups(values[order])
    several = counts.column("several").to_numpy()[order]
    groups = (first != last) | several[first]
    kept = np.sort(order[np.repeat(groups, last - first + 1)])
    return counts.select(["part", "fingerprint"]).take(pa.array(kept))


def regions(
    documents: pa.Table, fingerprints: pa.Table, shared: pa.Table, words: int, ignore_case: bool
) -> pa.Table:
    """The longest runs of windows with shared fingerprints: ``first`` and ``windows`` as above, their
    ``text``, and what tells the places of documents: ``priority``, ``length`` in characters, ``id``
    and ``source``."""
    if not shared.num_rows:
        return EMPTY
    known = pc.is_in(fingerprints.column("fingerprint"), shared.column("fingerprint"))
    runs = fingerprints.filter(known)
    at, first = integers(runs, "at"), integers(runs, "first")
    ends = first + integers(runs, "windows")
    new = np.ones(at.size, bool)
    new[1:] = (at[1:] != at[:-1]) | (first[1:] != ends[:-1])
    start = np.flatnonzero(new)
    at, first, ends = at[start], first[start], ends[np.append(start[1:], new.size) - 1]

    used, text = np.unique(at, return_inverse=True)
    chosen = documents.take(pa.array(used))
    texts: list[str] = []
    for begin, block in blocks(texts_of(chosen, ignore_case)):
        inside = range(*np.searchsorted(text, [begin, begin + block.texts.size - 1]))
        for region in inside:
            word = int(block.texts[text[region] - begin] + first[region])
            texts.append(block.passage(word, int(ends[region] - first[region]) + words - 1))
    priority = (
        pc.fill_null(chosen.column("priority").cast(pa.int64()), 0)
        if "priority" in chosen.column_names
        else pa.array(np.zeros(used.size, np.int64))
    )
    chosen = chosen.select(["part", "row", "id", "source"])
    chosen = chosen.append_column("priority", priority).append_column(
        "length", pc.utf8_length(documents.column("text").take(pa.array(used))).cast(pa.int64())
    )
    table = chosen.take(pa.array(text))
    table = table.append_column("first", pa.array(first))
    table = table.append_column("windows", pa.array(ends - first))
    return table.append_column("text", pa.array(texts, pa.large_string()))


def _groups(values: np.ndarray) -> tuple[Integers, Integers]:
    """The first and last places of equal values, which are sorted."""
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1])[: values.size])
    return first, np.append(first[1:], values.size)[: first.size] - 1
