"""Documents that take the process with them that works on them."""

from __future__ import annotations

import os
from functools import partial

import pytest
from engine_data.executors.local import LocalExecutor
from support.losing import Fragile, FragileSource, made

from engine.data.corpus.columns import LOST
from engine.data.corpus.executors import Means
from engine.data.corpus.parts import Part, all_documents, table_of
from engine.data.corpus.reading import read
from engine.data.corpus.steps import NamedProcessor, carried_out
from engine.data.corpus.store import Store, key_of
from engine.data.records import NamedSource, Rows
from engine.errors import RunError


@pytest.fixture(scope="module")
def executor():
    local = LocalExecutor(2)
    yield local
    local.close()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "work")


@pytest.fixture
def parts(store, document):
    """Two parts of texts: what each says, or its number."""

    def write(texts, size=700):
        found = []
        for start in range(0, len(texts), size):
            key = key_of("documents", start)
            store.write(key, table_of([document(text) for text in texts[start : start + size]]))
            found.append(Part(0, key))
        return found

    return write


def _outcomes(store, parts, executor, seconds=60.0, once=None):
    make = partial(Fragile, once)
    named = NamedProcessor("fragile", "key", make(), make)
    after = carried_out(store, parts, named, means=Means(executor, seconds))
    tables = [all_documents(store, part, number) for number, part in enumerate(after)]
    return [
        (row["text"], row["length"], row["drop"]) for table in tables for row in table.to_pylist()
    ]


@pytest.mark.parametrize("end", ["crash", "memory", "hang"])
def test_a_document_that_ends_its_process_costs_itself_alone(store, parts, executor, end):
    """Wherever it stands: first, last, or beside another one."""
    texts = [str(number) for number in range(1300)]
    bad = (0, 600, 601, 1299)
    for number in bad:
        texts[number] = f"{end} {number}"
    found = _outcomes(store, parts(texts), executor, 0.5 if end == "hang" else 60.0)
    assert [text for text, _, drop in found if drop] == [texts[number] for number in bad]
    assert {drop for _, _, drop in found} == {None, LOST}
    assert all(length == len(text) for text, length, drop in found if not drop)


def test_a_process_that_somebody_kills_costs_no_document(store, parts, executor, tmp_path):
    """Its work is done again."""
    (once := tmp_path / "once").touch()
    texts = [str(number) for number in range(40)]
    found = _outcomes(store, parts(texts, 20), executor, once=once)
    assert found == [(text, len(text), None) for text in texts]
    assert not once.exists()


def test_a_processor_that_loses_its_process_again_and_again_is_to_blame_itself(
    store, parts, executor
):
    """It names the first documents."""
    texts = [f"crash {number}" for number in range(30)]
    with pytest.raises(RunError, match=r"'fragile' loses its process again and again.*crash 1'"):
        _outcomes(store, parts(texts), executor)


def test_a_source_that_is_lost_is_read_by_smaller_parts(store, executor):
    """Until the one that cannot be read stands alone, which is a bad row; all others stay in order."""
    texts = [str(number) for number in range(20)]
    texts[0], texts[7], texts[13] = "crash", "memory", "crash"
    source = FragileSource(texts, 10)
    make = partial(made, FragileSource, given=(texts, 10))
    named = NamedSource("fragile", source, key="key", make=make)
    for _ in range(2):  # the second time all is there
        rows = Rows(named)
        keys = read(store, named, rows, Means(executor), lambda done, total: None)
        found = [t for key in keys for t in store.read(key).column("text").to_pylist()]
        assert found == [text for text in texts if text.isdecimal()]
        assert (rows.read, rows.bad) == (20, {LOST: 3})
        assert [bad.id for bad in rows.first] == ["0 1", "7 8", "13 14"]


def test_a_part_that_cannot_be_divided_is_not_left_out_in_silence(store, executor, monkeypatch):
    """The stage stops, and names it."""
    monkeypatch.setattr(FragileSource, "split", lambda self, part: [part])
    texts = ["1", "2", "crash", "4"]
    make = partial(made, FragileSource, given=(texts, 2))
    named = NamedSource("fragile", FragileSource(texts, 2), key="key", make=make)
    with pytest.raises(RunError, match=r"'fragile': its reader was lost at part '2 4': .*SIGSEGV"):
        read(store, named, Rows(named), Means(executor), lambda done, total: None)


def test_a_document_that_fills_a_batch_is_tried_again_before_it_is_blamed(
    store, parts, executor, tmp_path
):
    """Somebody may have killed its process."""
    (once := tmp_path / "once").touch()
    found = _outcomes(store, parts(["the only one"]), executor, once=once)
    assert found == [("the only one", 12, None)]


def test_a_worker_that_cannot_start_says_why(store, parts, monkeypatch):
    """No document is to blame for it."""
    monkeypatch.setenv("PYTHONHOME", os.devnull)
    local = LocalExecutor(1)
    with pytest.raises(RunError, match=r"a worker process cannot start: .*encodings"):
        _outcomes(store, parts(["1"]), local)
    local.close()
