"""What is computed of each document: its bands, and its shingles where a band is another document's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine_corpus.deduplicate.near.banding import Banding
from engine_corpus.deduplicate.near.hashing import Hashes
from engine_corpus.deduplicate.near.matrices import HASHES, column_of, matrix_of
from engine_corpus.deduplicate.near.nodes import is_older, node_of, row_of
from engine_corpus.deduplicate.near.older import older_documents
from engine_corpus.deduplicate.near.shingles import shingle_sets
from engine_corpus.deduplicate.near.signatures import band_hashes

COMPARED = pa.schema(
    [
        ("group", pa.uint64()),
        ("node", pa.uint64()),
        ("id", pa.string()),
        ("older", pa.bool_()),
        ("priority", pa.int64()),
        ("length", pa.int64()),
        ("copies", pa.uint64()),
        ("near_bands", HASHES),
        ("shingles", HASHES),
    ]
)
"""Documents to compare. ``copies``: a hash of all shingles; ``shingles``: the different ones, null
where another document of the group has the same."""


def signed(documents: pa.Table, words: int, bands: int, rows: int) -> pa.Table:
    """The bands of each document, none where it has no word, and ``copies``, a hash of all shingles."""
    banding = Banding(bands, rows)
    copies, found = band_hashes(documents.column("text"), words, banding)
    return pa.table(
        {
            "part": documents.column("part"),
            "row": documents.column("row"),
            "copies": copies,
            "near_bands": column_of(found, np.any(found, axis=1)),
            "near_banding": pa.array([banding.name(words)] * len(found), pa.string()),
        }
    )


def keys(table: pa.Table) -> pa.Table:
    """A row for each band of each document, and one for the hash of all shingles."""
    nodes = node_of(table.column("part").to_numpy(), table.column("row").to_numpy())
    counts = pc.list_value_length(table.column("near_bands")).to_numpy()
    bands = pc.list_flatten(table.column("near_bands")).to_numpy()
    some = counts > 0
    copies = table.column("copies").to_numpy()[some]
    return pa.table(
        {
            "key": np.concatenate([bands, copies]),
            "node": np.concatenate([np.repeat(nodes, counts), nodes[some]]),
            "copies": np.arange(len(bands) + len(copies)) >= len(bands),
        }
    )


def compared(
    documents: pa.Table,
    signatures: pa.Table,
    groups: pa.Table,
    older: list[list[str]],
    words: int,
    bands: int,
    rows: int,
) -> pa.Table:
    """What the comparison needs of the documents that are in groups, in rows of ``COMPARED``.

    ``signatures``: what :func:`signed` gave for the same documents.
    """
    if not groups.num_rows:
        return COMPARED.empty_table()
    apart = is_older(groups.column("node").to_numpy())
    found = []
    if not apart.all():
        own = groups.filter(pa.array(~apart)).sort_by("node")
        nodes = own.column("node").to_numpy()
        places = np.searchsorted(documents.column("row").to_numpy(), row_of(nodes))
        given = documents.take(pa.array(places))
        known = signatures.take(pa.array(places))
        copies = known.column("copies").to_numpy()
        matrix = matrix_of(known.column("near_bands"), bands)
        found.append(_rows(given, own, copies, matrix, words))
    if apart.any():
        past = groups.filter(pa.array(apart)).sort_by("node")
        given, matrix = older_documents(
            older, past.column("node").to_numpy(), words, Banding(bands, rows)
        )
        found.append(_rows(given, past, np.zeros(len(past), np.uint64), matrix, words))
    return pa.concat_tables(found)


def _rows(
    documents: pa.Table, groups: pa.Table, copies: Hashes, bands: Hashes, words: int
) -> pa.Table:
    texts = documents.column("text")
    copy = groups.column("copy")
    sets = shingle_sets(texts.filter(pc.invert(copy)), words)
    priority = (
        pc.fill_null(documents.column("priority").cast(pa.int64()), 0)
        if "priority" in documents.column_names
        else pa.array(np.zeros(len(groups), np.int64))
    )
    return pa.table(
        {
            "group": groups.column("group"),
            "node": groups.column("node"),
            "id": documents.column("id"),
            "older": is_older(groups.column("node").to_numpy()),
            "priority": priority,
            "length": pc.utf8_length(texts).cast(pa.int64()),
            "copies": copies,
            "near_bands": column_of(bands, np.ones(len(groups), bool)),
            "shingles": _lists(sets, copy.to_pylist()),
        },
        schema=COMPARED,
    )


def _lists(sets: Iterator[Hashes], missing: list[bool]) -> pa.Array:
    """A list of each set, and null where it is missing."""
    given = [np.zeros(0, np.uint64) if none else next(sets) for none in missing]
    ends = np.concatenate([[0], np.cumsum([len(one) for one in given])])
    mask = pa.array(missing, pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(ends), np.concatenate(given), mask=mask)
