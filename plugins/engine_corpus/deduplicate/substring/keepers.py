"""Keepers: of each window that several documents have, the document in the highest place.

Places are by priority, then length in characters, then id and source. The functions are mapped over a
corpus, in this order: `described`, `placed`, `windows`, `kept`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from engine_corpus.deduplicate.substring.candidates import EMPTY, integers
from engine_corpus.deduplicate.substring.fingerprints import grams
from engine_corpus.deduplicate.substring.numbering import first_places, numbered
from engine_corpus.deduplicate.substring.words import Hashes, Integers, Words, hashes, words_of

_LOW = 32
"""Bits of a word's number in its document, where both are in one number."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of the regions of a part.

    ``words``: those of all regions. ``region`` and ``first`` tell of each window its region and the
    number of its first word among all. ``numbers`` are equal for windows of equal words; ``keys`` is a
    hash for each number.
    """

    words: Words
    region: Integers
    first: Integers
    numbers: Integers
    keys: Hashes


def windows_of(regions: pa.Table, length: int) -> Windows:
    """The windows of so many words."""
    words = words_of(regions.column("text").combine_chunks())
    counts = integers(regions, "windows")
    region = np.repeat(np.arange(counts.size), counts)
    first = np.arange(region.size) - np.repeat(np.cumsum(counts) - counts, counts)
    first += words.texts[region]
    coded = words.strings().dictionary_encode()
    codes = coded.indices.to_numpy()
    keys = grams(hashes(words_of(coded.dictionary))[codes], length)[first]
    numbers = numbered(codes, length, first, keys)
    return Windows(words, region, first, numbers, keys[first_places(numbers)])


def described(regions: pa.Table) -> pa.Table:
    """The documents that have regions, with what tells their places."""
    rows = integers(regions, "row")
    new = pa.array(np.diff(rows, prepend=-1) != 0)
    return regions.select(["part", "row", "length", "id", "source"]).filter(new)


def placed(documents: pa.Table) -> pa.Table:
    """The order of documents by id, in the column ``place``; a part has all of the same length."""
    order = [(name, "ascending") for name in ("id", "source", "part", "row")]
    table = documents.sort_by(order).select(["part", "row"])
    return table.append_column("place", pa.array(np.arange(table.num_rows)))


def windows(regions: pa.Table, places: pa.Table, words: int) -> pa.Table:
    """Each window of the part once: its key, whether several documents of the part have it, and the
    one of these in the highest place, with the window's first word in it."""
    if not regions.num_rows:
        return EMPTY
    found = windows_of(regions, words)
    rows = integers(regions, "row")
    order = np.argsort(integers(places, "row"))
    place = integers(places, "place")[order[np.searchsorted(integers(places, "row")[order], rows)]]
    descending = [~integers(regions, name) for name in ("length", "priority")]
    order = np.lexsort((place, *descending))
    rank = np.empty(rows.size, np.int64)
    rank[order] = np.cumsum(np.diff(rows[order], prepend=-1) != 0)

    word = found.first - (found.words.texts[:-1] - integers(regions, "first"))[found.region]
    ranks = rank[found.region]
    best = np.full(found.keys.size, np.iinfo(np.int64).max)
    np.minimum.at(best, found.numbers, (ranks << _LOW) | word)
    worst = np.zeros(found.keys.size, np.int64)
    np.maximum.at(worst, found.numbers, ranks)

    region = np.empty(rows.size + 1, np.int64)
    region[rank] = np.arange(rows.size)
    best_rank = best >> _LOW
    table = regions.select(["part", "row", "priority", "length"])
    table = table.append_column("place", pa.array(place)).take(pa.array(region[best_rank]))
    table = table.append_column("first", pa.array(best & ((1 << _LOW) - 1)))
    table = table.append_column("several", pa.array(best_rank != worst))
    return table.append_column("key", pa.array(found.keys))


def kept(windows: pa.Table) -> pa.Table:
    """The keepers of windows: for each part in which another document has the window, its key; the
    address of the keeper, and the window's first word in it."""
    keys = windows.column("key").to_numpy()
    order = np.argsort(keys, kind="stable")
    same = np.append(keys[order[1:]] == keys[order[:-1]], False)
    several = windows.column("several").to_numpy()
    grouped = same | np.append(False, same[:-1]) | several[order]
    rows = windows.take(pa.array(order[grouped]))
    descending = [~integers(rows, name) for name in ("length", "priority")]
    keys = rows.column("key").to_numpy()
    rows = rows.take(pa.array(np.lexsort((integers(rows, "place"), *descending, keys))))
    keys = rows.column("key").to_numpy()
    first = np.append(True, keys[1:] != keys[:-1])[: keys.size]
    keeper = np.maximum.accumulate(np.where(first, np.arange(keys.size), 0))
    found = {name: rows.column(name).take(pa.array(keeper)) for name in ("part", "row", "first")}
    table = pa.table(
        {
            "part": rows.column("part"),
            "key": keys,
            **{f"keeper_{name}": values for name, values in found.items()},
        }
    )
    return table.filter(pa.array(~first | rows.column("several").to_numpy()))
