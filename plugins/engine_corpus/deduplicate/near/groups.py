"""Groups of documents that have bands in common, directly or through others."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine_corpus.deduplicate.near.hashing import mixed
from engine_corpus.deduplicate.near.nodes import is_older, place_of


def pairs_in_buckets(*proposals: pa.Table) -> pa.Table:
    """Pairs that connect the documents of each bucket: its first document with every other.

    The tables have the columns ``key``, ``node`` and ``copies``: whether the key is a hash of all
    shingles, so that the documents of its bucket are copies. A bucket of older documents alone has
    nothing to decide.
    """
    table = pa.concat_tables(proposals, promote_options="default")
    keys, nodes = table.column("key").to_numpy(), table.column("node").to_numpy()
    copies = table.column("copies").to_numpy()
    order = np.lexsort([nodes, keys, copies])
    keys, nodes, copies = keys[order], nodes[order], copies[order]
    again = np.zeros(len(keys), bool)
    again[1:] = (keys[1:] == keys[:-1]) & (copies[1:] == copies[:-1])
    firsts = nodes[np.maximum.accumulate(np.where(again, 0, np.arange(len(keys))))]
    again &= ~is_older(firsts)
    return _once(pa.table({"first": firsts[again], "node": nodes[again], "copies": copies[again]}))


def pairs_once(pairs: pa.Table) -> pa.Table:
    """Each pair that several tables of buckets have once, all with the same ``key``."""
    found = _once(pairs)
    return found.append_column("key", pa.array(np.zeros(found.num_rows, np.uint8)))


def _once(pairs: pa.Table) -> pa.Table:
    named = pairs.group_by(["first", "node"], use_threads=False)
    return named.aggregate([("copies", "max")]).rename_columns({"copies_max": "copies"})


def groups(pairs: pa.Table, parts: int) -> pa.Table:
    """Every document of a pair: its ``node``, its ``group``, and the ``part`` where its text is read;
    ``copy``: whether another one of the group has the same shingles."""
    firsts, others = pairs.column("first").to_numpy(), pairs.column("node").to_numpy()
    nodes, places = np.unique(np.concatenate([firsts, others]), return_inverse=True)
    labels = _connected(places[: len(firsts)], places[len(firsts) :], len(nodes))
    copy = np.zeros(len(nodes), bool)
    copied = pairs.column("copies").to_numpy()
    copy[places[len(firsts) :][copied]] = True
    part = np.where(is_older(nodes), mixed(nodes) % np.uint64(parts), place_of(nodes))
    return pa.table(
        {
            "node": nodes,
            "group": mixed(nodes[labels]),
            "copy": copy,
            "part": part.astype(np.int32),
        }
    )


def _connected(a: NDArray[np.int64], b: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The smallest number of each number's connected component, by hooking and shortcutting (Shiloach &
    Vishkin 1982)."""
    labels = np.arange(count)
    while True:
        low = np.minimum(labels[a], labels[b])
        high = np.maximum(labels[a], labels[b])
        if np.array_equal(low, high):
            return labels
        np.minimum.at(labels, high, low)
        while not np.array_equal(jumped := labels[labels], labels):
            labels = jumped
