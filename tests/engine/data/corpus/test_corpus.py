"""The verbs of steps over a corpus, and what is kept for a preparation that goes on."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contracts.data import CorpusStep, DataSource
from engine.data.corpus.each import each
from engine.data.corpus.former_processor import as_processor
from engine.data.corpus.parts import Part, all_documents, table_of
from engine.data.corpus.steps import NamedProcessor, carried_out
from engine.data.corpus.store import Store, key_of
from engine.data.corpus.verbs import PartedCorpus
from engine.data.records import NamedSource
from engine.errors import RunError
from engine.testing import processed


@pytest.fixture
def store(tmp_path):
    """An empty one."""
    return Store(tmp_path / "work")


@pytest.fixture
def parts(store, document):
    """Three parts with the texts 0 to 9."""
    texts = [str(n) for n in range(10)]
    found = []
    for number, some in enumerate((texts[:4], [], texts[4:])):
        found.append(Part(0, key_of("test", number)))
        store.write(found[-1].documents, table_of([document(text) for text in some]))
    return found


def _rows(store, parts, *names):
    tables = (all_documents(store, part, number) for number, part in enumerate(parts))
    return [tuple(row.values()) for table in tables for row in table.select(names).to_pylist()]


def parity(documents):
    numbers = [int(text) for text in documents.column("text").to_pylist()]
    columns = documents.select(["part", "row"])
    columns = columns.append_column("parity", pa.array([n % 2 for n in numbers], pa.uint64()))
    return columns.append_column("number", pa.array(numbers))


def largest(rows, kept):
    """Drops all but the largest of a parity; of the others keeps those in ``kept``."""
    largest = rows.column("number").to_numpy() == max(rows.column("number").to_pylist(), default=0)
    known = np.isin(rows.column("number").to_numpy(), kept.column("number").to_numpy())
    dropped = rows.filter(pa.array(~(largest | known)))
    return dropped.select(["part", "row"]).append_column("drop", pa.array(["small"] * len(dropped)))


def below(documents, limit):
    numbers = [int(text) for text in documents.column("text").to_pylist()]
    return pa.table({"number": [n for n in numbers if n < limit]})


class Largest(CorpusStep):
    """Uses both verbs, a bound value, and a bound data set."""

    def run(self, corpus):
        kept = corpus.map(partial(below, limit=2), corpus.documents)
        rows = corpus.shuffle(corpus.map(parity, corpus.documents), "parity")
        return corpus.map(partial(largest, kept=kept), rows)


def test_rows_of_one_key_come_together_and_go_back_to_their_documents(store, parts):
    """Whatever part they were in; documents without a row stay as they are."""
    after = carried_out(store, parts, NamedProcessor("largest", "1", Largest()))
    kept = [text for text, drop in _rows(store, after, "text", "drop") if drop is None]
    assert kept == ["0", "1", "8", "9"]
    again = carried_out(store, after, NamedProcessor("largest", "2", Largest()))
    assert _rows(store, again, "text", "drop") == _rows(store, after, "text", "drop")


def test_a_part_that_comes_before_moves_no_result_to_another_document(store, parts, document):
    """What was found of a part is used again only where it has the same place."""
    carried_out(store, parts, NamedProcessor("largest", "1", Largest()))
    before = Part(0, key_of("before"))
    store.write(before.documents, table_of([document("7"), document("0")]))
    after = carried_out(store, [before, *parts], NamedProcessor("largest", "1", Largest()))
    kept = [text for text, drop in _rows(store, after, "text", "drop") if drop is None]
    assert kept == ["0", "0", "1", "8", "9"]


def test_shuffled_rows_keep_their_order(store, parts):
    """All of them, each once."""
    corpus = PartedCorpus(store, parts, "key", lambda done, total: None)
    shuffled = corpus.shuffle(corpus.map(parity, corpus.documents), "parity")
    found = [store.read(key).column("number").to_pylist() for key in shuffled.keys]
    assert sorted(found) == [[], [0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


class Counted(CorpusStep):
    """Notes how many documents each part has that it is asked for."""

    def __init__(self):
        self.calls = []

    def run(self, corpus):
        return corpus.map(self.measured, corpus.documents)

    def measured(self, documents):
        self.calls.append(documents.num_rows)
        return documents.select(["part", "row"])


def test_what_is_made_is_not_made_again_but_where_it_was_damaged(store, parts, tmp_path):
    """By name: another setting of a step makes new tables."""

    def carry_out(key):
        counted = Counted()
        carried_out(Store(tmp_path / "work"), parts, NamedProcessor("counted", key, counted))
        return counted.calls

    assert carry_out("1") == [4, 6]  # a part without documents is left out
    assert carry_out("1") == []
    assert carry_out("2") == [4, 6]
    for file in (tmp_path / "work").glob("*.parquet"):
        found = pq.ParquetFile(file)
        if (found.metadata.num_rows, found.schema_arrow.names) == (6, ["part", "row"]):
            damaged = bytearray(file.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            file.write_bytes(damaged)
    assert carry_out("1") == [6]
    assert carry_out("1") == []
    assert carry_out("2") == [6]


def test_columns_of_one_processor_are_there_for_the_next(document):
    """Texts as they were changed; annotations by their names, null where there is none."""

    def shouted(found):
        if found.text == "quiet":
            return {"volume": 0}
        return {"volume": len(found.text), "text": found.text.upper()}

    documents = [document("loud"), document("quiet")]
    outcomes = processed(each(shouted), documents)
    assert [outcome.text for outcome in outcomes] == ["LOUD", "quiet"]
    assert outcomes[0].id == documents[0].id


def test_a_processor_of_before_sees_all_documents_in_order(document):
    """It may remember them, and its author is told what to write."""

    class Former:
        def __init__(self):
            self.seen = set()

        def process(self, record):
            again = record.text in self.seen
            self.seen.add(record.text)
            return "again" if again else record

    with pytest.warns(
        DeprecationWarning, match=r"Former has process\(record\): return engine.each"
    ):
        processor = as_processor(Former())
    documents = [document(text) for text in "abab"]
    assert processed(processor, documents) == [*documents[:2], "again", "again"]


class Read(DataSource):
    """Two parts, of which it can be told that one has changed."""

    def __init__(self, new):
        self.versions = {"a": "1", "b": "1"}
        self.read = []
        self._new = new

    def parts(self):
        return ["a", "b"]

    def version(self, part):
        return self.versions[part]

    def records(self, part):
        self.read.append(part)
        yield from (self._new(f"{part}{n}") for n in range(3))


def test_a_broken_off_preparation_reads_only_what_is_missing_or_has_changed(new_corpus, document):
    """Parts that were read are not read again."""
    corpus, source = new_corpus(), Read(document)
    named = NamedSource("read", source, key="read")

    def failing(texts):
        raise ValueError("not today")

    for _ in range(2):
        with pytest.raises(RunError, match="not today"):
            corpus.prepare(named, trainer=failing)
    assert source.read == ["a", "b"]
    source.versions["b"] = "2"
    card = corpus.prepare(named)
    assert source.read == ["a", "b", "b"]
    assert card["sources"][0]["read"] == 6
    assert not (corpus.folder / "work").exists()
