"""Passages: runs of windows that a keeper has in the same order, compared with its words.

The functions are mapped over a corpus, in this order: `passages`, `claims`, `verified`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine_corpus.deduplicate.substring.candidates import EMPTY, integers
from engine_corpus.deduplicate.substring.keepers import Windows, windows_of
from engine_corpus.deduplicate.substring.numbering import first_places
from engine_corpus.deduplicate.substring.words import Integers


def passages(regions: pa.Table, keepers: pa.Table, words: int) -> pa.Table:
    """Passages to be cut if a claim is true: ``first`` and ``words``, the number of the claim in the
    part, and, where a claim is named first, its text and where the keeper should have it.

    A claim is made once for a part: however many documents have a passage, its text travels once.
    """
    if not regions.num_rows or not keepers.num_rows:
        return EMPTY
    found = windows_of(regions, words)
    keeper, claim = _claims(found, keepers)
    numbers = found.numbers
    addresses = [integers(keepers, f"keeper_{name}")[keeper] for name in ("part", "row", "first")]
    own = integers(regions, "part")[found.region], integers(regions, "row")[found.region]
    foreign = (own[0] != addresses[0][numbers]) | (own[1] != addresses[1][numbers])
    cut = np.flatnonzero((keeper[numbers] >= 0) & foreign)
    if not cut.size:
        return EMPTY
    run = np.ones(cut.size, bool)
    run[1:] = (
        (np.diff(cut) != 1)
        | (np.diff(found.region[cut]) != 0)
        | (np.diff(claim[numbers[cut]]) != 0)
    )
    start = np.flatnonzero(run)
    at = cut[start]
    counts = np.diff(start, append=cut.size) + words - 1
    region = found.region[at]
    first = found.first[at] - found.words.texts[region] + integers(regions, "first")[region]

    named = claim[numbers[at]]
    _, asked = np.unique(named, return_index=True)
    begin = np.searchsorted(claim, named[asked])  # the first number of the claim
    end = np.searchsorted(claim, named[asked], "right")
    begins = found.first[first_places(numbers)[begin]]
    texts = pa.array(
        [
            found.words.passage(int(word), int(count) + words - 1)
            for word, count in zip(begins, end - begin, strict=True)
        ],
        pa.large_string(),
    )
    where = np.full(at.size, -1)
    where[asked] = np.arange(asked.size)
    of_claim = pa.array(where, mask=where < 0)
    table = regions.select(["part", "row"]).take(pa.array(region))
    columns = {"first": first, "words": counts, "claim": named}
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    for name, values in zip(("part", "row", "first"), addresses, strict=True):
        table = table.append_column(f"keeper_{name}", pa.array(values[begin]).take(of_claim))
    return table.append_column("text", texts.take(of_claim))


def claims(passages: pa.Table) -> pa.Table:
    """Each claim once, addressed to the keeper's part; ``asker``: the part that it comes from."""
    if not passages.num_rows:
        return EMPTY
    named = passages.filter(pc.is_valid(passages.column("text")))
    return pa.table(
        {
            **{name: named.column(f"keeper_{name}") for name in ("part", "row", "first")},
            "asker": named.column("part"),
            "claim": named.column("claim"),
            "text": named.column("text"),
        }
    )


def verified(regions: pa.Table, claims: pa.Table) -> pa.Table:
    """The claims that are true word by word, addressed to the parts that made them, with the keeper's
    id."""
    if not claims.num_rows:
        return EMPTY
    true = list(_true(regions, claims))
    rows = claims.take(pa.array([claim for claim, _ in true], pa.int64()))
    keeper = regions.column("id").take(pa.array([region for _, region in true], pa.int64()))
    return pa.table({"part": rows["asker"], "claim": rows["claim"], "keeper": keeper})


def _claims(found: Windows, keepers: pa.Table) -> tuple[Integers, Integers]:
    """For each number of a window, the row of its keeper, or -1, and the number of its claim, which
    does not fall: windows that follow each other here and in the keeper are in the same claim."""
    keys = keepers.column("key").to_numpy()
    order = np.argsort(keys)
    at = np.minimum(np.searchsorted(keys[order], found.keys), keys.size - 1)
    keeper = np.where(keys[order[at]] == found.keys, order[at], -1)
    place = first_places(found.numbers)
    part, row, first = (integers(keepers, f"keeper_{x}")[keeper] for x in ("part", "row", "first"))
    follows = (
        (keeper[1:] >= 0)
        & (keeper[:-1] >= 0)
        & (np.diff(place) == 1)
        & (np.diff(found.region[place]) == 0)
        & (np.diff(part) == 0)
        & (np.diff(row) == 0)
        & (np.diff(first) == 1)
    )
    return keeper, np.append(0, np.cumsum(~follows))


def _true(regions: pa.Table, claims: pa.Table) -> Iterator[tuple[int, int]]:
    """True claims and the regions that prove them."""
    starts = list(zip(integers(regions, "row"), integers(regions, "first"), strict=True))
    region, words = -1, []
    rows, firsts = integers(claims, "row"), integers(claims, "first")
    texts = claims.column("text")
    at = 0
    for claim in np.lexsort((firsts, rows)):
        while at + 1 < len(starts) and starts[at + 1] <= (rows[claim], firsts[claim]):
            at += 1
        if at != region:
            region, words = at, regions.column("text")[at].as_py().split()
        begin = firsts[claim] - starts[at][1]
        claimed = texts[claim].as_py().split()
        if words[begin : begin + len(claimed)] == claimed:
            yield int(claim), at
