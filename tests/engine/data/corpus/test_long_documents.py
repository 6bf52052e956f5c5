"""Documents that are too long for memory go through a preparation in pieces."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

import pyarrow.parquet as pq
import pytest

from engine.contracts.data import DataSource
from engine.contracts.records import Bad, Text
from engine.data import pieces
from engine.data.corpus import reading
from engine.data.corpus.executors import Means
from engine.data.corpus.store import Store
from engine.data.records import NamedSource, Rows


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "LONGEST", 20)


class _Books(DataSource):
    """Long documents, a short one, and a bad row."""

    def __init__(self, count):
        self.texts = {f"b{i}": f"book {i} has these words" + f" and {i}" * i for i in range(count)}

    def records(self, part):
        for name, text in self.texts.items():
            yield Text(id=name, source="shelf", text=text)
        yield Text(id="short", source="shelf", text="short")
        yield Bad("none", "nothing", "it is not there")


def test_a_long_document_counts_as_its_pieces(new_corpus):
    """In documents and bytes, what is read is what is kept, held out and dropped; each document is on
    one side, and is whole."""
    corpus, books = new_corpus(), _Books(30)
    card = corpus.prepare(books, holdout=0.4, seed=1)["sources"][0]
    table = pq.read_table(corpus.folder / "shards" / "0" / "documents.parquet")
    trained = {row["id"]: row["tokens"] for row in table.to_pylist()}
    held = {document.id: document for document in corpus.held_out()}
    texts = {**books.texts, "short": "short"}
    assert card["read"] == len(trained) + len(held) + 1 > 2 * len(texts)
    assert (card["documents"], card["held_out"]) == (len(trained), len(held))
    assert card["dropped"] == {"nothing": 1}
    assert card["account"]["read_bytes"] == sum(map(len, texts.values()))
    assert card["bytes"] + card["account"]["held_out_bytes"] == card["account"]["read_bytes"]
    sides = defaultdict(set)
    for side, ids in enumerate((trained, held)):
        for one in ids:
            sides[one.partition("#")[0]].add(side)
    assert sides.keys() == texts.keys()
    assert {tuple(found) for found in sides.values()} == {(0,), (1,)}
    sizes = defaultdict(int)
    for one, tokens in trained.items():
        sizes[one.partition("#")[0]] += tokens
    assert sizes == {name: len(text) for name, text in texts.items() if sides[name] == {0}}
    for last in [document for document in held.values() if "pieces" in document.meta]:
        name = last.meta["piece_of"]
        numbers = range(1, last.meta["pieces"] + 1)
        assert "".join(held[f"{name}#{number}"].text for number in numbers) == texts[name]


def test_tables_hold_a_few_pieces_each(tmp_path, monkeypatch):
    """So that no process has a whole document at once."""
    monkeypatch.setattr(reading, "_PART", 100)
    books, store = _Books(1), Store(tmp_path / "work")
    books.texts["long"] = "word " * 1000
    named = NamedSource("books", books)
    rows = Rows(named)
    keys = reading.read(store, named, rows, Means(), lambda done, total: None)
    found = [store.read(key).column("text").to_pylist() for key in keys]
    assert max(map(len, found)) <= 7
    assert "".join(chain.from_iterable(found)) == "".join([*books.texts.values(), "short"])
    assert rows.read == sum(map(len, found)) + 1
