"""All columns that a processor or step gives for texts, over a corpus in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data import topics as pydoc_topics
from typing import Any

import pyarrow as pa
import pytest
from support.memory_corpus import MemoryCorpus

from engine import CorpusStep
from engine.testing import StandAloneContext

STEPS = ("quality", "classifier")


def _documents(texts: Sequence[str], sources: Sequence[str], first: int, part: int) -> pa.Table:
    count = len(texts)
    return pa.table(
        {
            "id": [str(first + number) for number in range(count)],
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array(sources, pa.string()),
            "part": pa.array([part] * count, pa.int32()),
            "row": pa.array(range(count), pa.int64()),
        }
    )


@pytest.fixture(scope="session")
def scored() -> Callable[..., list[dict[str, Any]]]:
    """Of each text what a component of this type and these settings gives."""

    def scored(
        type_: str,
        texts: Sequence[str],
        *,
        sources: Sequence[str] | None = None,
        parts: int = 1,
        **fields: Any,
    ) -> list[dict[str, Any]]:
        kind = "corpus-step" if type_ in STEPS else "processor"
        made = StandAloneContext().build(kind, {"type": type_, **fields})
        given = sources or ["texts"] * len(texts)
        size = -(-len(texts) // parts)
        tables = [
            _documents(texts[at : at + size], given[at : at + size], at, number)
            for number, at in enumerate(range(0, size * parts, size))
        ]
        if not isinstance(made, CorpusStep):
            batches = [batch for table in tables for batch in table.to_batches()]
            columns = [pa.table(dict(made.columns(batch))) for batch in batches]
            return pa.concat_tables(columns).to_pylist()
        found = made.run(MemoryCorpus(tables)).whole()
        rows = found.sort_by([("part", "ascending"), ("row", "ascending")])
        return rows.drop(["part", "row"]).to_pylist()

    return scored


@pytest.fixture(scope="session")
def library() -> Callable[..., list[str]]:
    """Texts of modules of Python's standard library, by a glob of their names."""
    folder = Path(os.__file__).parent

    def texts(pattern: str) -> list[str]:
        return [file.read_text(encoding="utf-8") for file in sorted(folder.glob(pattern))]

    return texts


@pytest.fixture(scope="session")
def topics() -> list[str]:
    """Prose: the topics of Python's help."""
    return list(pydoc_topics.topics.values())
