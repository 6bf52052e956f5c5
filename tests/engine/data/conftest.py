"""Small corpora, prepared byte by byte from records that the tests give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pytest
from engine_data.config import Bytes
from engine_data.tokenizers import build_bytes
from transformers import AutoTokenizer

from engine.contracts.data import DataSource
from engine.contracts.records import Record, Text
from engine.data.corpus.former_processor import as_processor
from engine.data.corpus.prepare import prepare
from engine.data.corpus.steps import NamedProcessor
from engine.data.holdout_file import held_out
from engine.data.records import NamedSource
from engine.data.shards import Shards


def document(text: str, group: str | None = None, **fields: Any) -> Text:
    """A text record."""
    meta = {} if group is None else {"group": group}
    return Text(id=f"id of {text!r}", source="test", text=text, meta=meta, **fields)


class _Given(DataSource):
    def __init__(self, *records: Record) -> None:
        self._records = records

    def records(self, part):
        yield from self._records


_WHOLE = (".json", ".parquet")


@dataclass(frozen=True)
class Corpus:
    """A prepared folder, or one that could not be prepared."""

    folder: Path

    def prepare(self, *sources: Any, **options: Any) -> dict[str, Any]:
        """The card. A source is a list of texts and records, or any data source."""
        named = []
        for number, source in enumerate(sources):
            if isinstance(source, list):
                source = _Given(*(document(r) if isinstance(r, str) else r for r in source))
            if not isinstance(source, NamedSource):
                source = NamedSource(f"source-{number}", source, key=token_hex(8))
            named.append(source)
        by_byte = build_bytes(Bytes(), None)
        defaults = {"processors": (), "trainer": by_byte, "holdout": 0.0, "seed": 3}
        given = {**defaults, **options}
        given["processors"] = [
            NamedProcessor(type(one).__name__, token_hex(8), as_processor(one))
            for one in given["processors"]
        ]
        return prepare(self.folder, sources=named, **given)

    def tokens(self, source: int = 0) -> list[list[int]]:
        """Each training document's tokens."""
        shards = Shards.open(self.folder / "shards" / str(source))
        starts = shards.document_starts(0, shards.n_tokens)
        stream = shards.tokens(0, shards.n_tokens)
        return [tokens.tolist() for tokens in np.split(stream, starts)[1:]]

    def trained_on(self, source: int = 0) -> list[str]:
        """Each training document's text."""
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "tokenizer")
        documents = self.tokens(source)
        assert all(document[0] == tokenizer.bos_token_id for document in documents)
        return [tokenizer.decode(document[1:]) for document in documents]

    def held_out(self) -> list[Any]:
        """The held-out records."""
        return list(held_out(self.folder))

    def is_gone(self) -> bool:
        """Whether nothing is left, whole or half-written, but what a preparation goes on from."""
        left = [path for path in self.folder.parent.rglob("*") if path.is_file()]
        return all(
            f.parent == self.folder.parent / ".work" / self.folder.name and f.suffix in _WHOLE
            for f in left
        )


@pytest.fixture(scope="session", name="document")
def _document() -> Callable[..., Text]:
    return document


@pytest.fixture(scope="session")
def new_corpus(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Corpus]:
    """A corpus in a new folder."""
    return lambda: Corpus(tmp_path_factory.mktemp("prepared") / "corpus")
