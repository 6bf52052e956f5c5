"""A corpus in memory, which shows all columns that a step gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pytest
from engine_corpus.deduplicate.near.config import NearDedup
from engine_corpus.deduplicate.near.step import NearDedupStep
from support.memory_corpus import MemoryCorpus

Decided = dict[str, tuple[str, float]]
"""Of each document that falls its keeper and their similarity."""


def parted(rows: Sequence[Mapping[str, object]], parts: int) -> list[pa.Table]:
    """Documents in so many parts, with addresses."""
    size = -(-len(rows) // parts)
    tables = []
    for number in range(parts):
        own = rows[number * size :][:size]
        names = dict.fromkeys(name for row in rows for name in row)
        table = pa.table({name: pa.array([row[name] for row in own]) for name in names})
        table = table.append_column("part", pa.array([number] * len(own), pa.int32()))
        tables.append(table.append_column("row", pa.array(range(len(own)), pa.int64())))
    return tables


@pytest.fixture(scope="session")
def columns() -> Callable[..., list[dict[str, object]]]:
    """Deduplicates documents, and gives their ids with the step's columns."""

    def run(
        rows: Sequence[Mapping[str, object]], *, parts: int = 1, **fields: object
    ) -> list[dict[str, object]]:
        tables = parted(rows, parts)
        found = NearDedupStep(NearDedup(**fields)).run(MemoryCorpus(tables))
        given = [row for table in found.tables for row in table.to_pylist()]
        names = {
            (row["part"], row["row"]): {"id": row["id"], "source": row.get("source", "s")}
            for table in tables
            for row in table.to_pylist()
        }
        return [{**names[row["part"], row["row"]], **row} for row in given]

    return run


@pytest.fixture(scope="session")
def decided(columns) -> Callable[..., Decided]:
    """Deduplicates documents, and gives those that fall."""

    def run(rows: Sequence[Mapping[str, object]], **given: object) -> Decided:
        return {
            row["id"]: (row["near_keeper"], row["near_similarity"])
            for row in columns(rows, **given)
            if row["drop"] is not None
        }

    return run
