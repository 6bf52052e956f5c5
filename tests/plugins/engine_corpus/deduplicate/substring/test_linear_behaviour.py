"""Work and memory where texts repeat more than any real text."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from engine_corpus.deduplicate.substring.config import SubstringDedup
from engine_corpus.deduplicate.substring.step import build

_LICENCE = " ".join(f"licence{number}" for number in range(120))


def _run(corpus):
    return build(SubstringDedup(), None).run(corpus).tables


def _words_cut(found):
    return sum(sum(t.column("substring_words").to_pylist()) for t in found if t.num_rows)


def test_one_letter_300_000_times_is_one_word(memory_corpus):
    """In two documents that are equal, and shorter than a passage."""
    corpus = memory_corpus(["a" * 300_000] * 2, 1)
    assert _words_cut(_run(corpus)) == 0
    assert corpus.rows == 0


@pytest.mark.parametrize("period", [1, 60])
def test_one_word_300_000_times_takes_as_much_work_as_one_passage(memory_corpus, period):
    """Two such documents are a few windows, told once, and a passage that is compared once."""
    text = " ".join(f"w{number % period}" for number in range(300_000))
    corpus = memory_corpus([text, text + " end"], 2)
    begun = time.process_time()
    assert _words_cut(_run(corpus)) == 300_000
    assert time.process_time() - begun < 20
    claims = pa.concat_tables(corpus.made["claims"], promote_options="default")["text"].to_pylist()
    assert [len(text.split()) for text in claims] == [period + 49]
    assert len(corpus.made["windows"][0]) == period


def test_equal_documents_are_told_once_for_a_part(memory_corpus):
    """2,000 of them: all but one fall."""
    text = " ".join(f"word{number}" for number in range(120))
    corpus = memory_corpus([text] * 2000, 4)
    found = _run(corpus)
    assert sum(table.num_rows for table in found) == 1999
    assert _words_cut(found) == 1999 * 120
    assert corpus.largest_group <= 2000  # the places of documents of the same length
    assert [table.num_rows for table in corpus.made["windows"]] == [71] * 4
    assert sum(table.num_rows for table in corpus.made["claims"]) == 4


def _with_licence(count):
    own = (" ".join(f"d{one}w{at}" for at in range(30 + one % 40)) for one in range(count))
    return [f"{_LICENCE} {words}" for words in own]


def test_a_licence_in_all_documents_is_told_once_for_a_part(memory_corpus):
    """Twice as many documents are no more windows, but for those that reach into one document."""
    rows = []
    for count in (400, 800):
        corpus = memory_corpus(_with_licence(count), 3)
        assert _words_cut(_run(corpus)) == (count - 1) * 120
        for documents, table in zip(corpus.made["described"], corpus.made["windows"], strict=True):
            assert table.num_rows <= 71 + 49 * documents.num_rows
        assert sum(table.num_rows for table in corpus.made["kept"]) == 3 * 71
        assert sum(table.num_rows for table in corpus.made["claims"]) == 3
        rows.append(corpus.rows)
    assert rows[1] < 2.05 * rows[0]


@pytest.mark.soak
def test_a_licence_in_20_000_documents_takes_seconds(memory_corpus):
    """Linear in their words."""
    seconds = []
    for count in (5_000, 20_000):
        begun = time.process_time()
        found = _run(memory_corpus(_with_licence(count), 4))
        seconds.append(time.process_time() - begun)
        assert _words_cut(found) == (count - 1) * 120
    assert seconds[1] < 6 * seconds[0]


def test_only_what_documents_may_share_is_looked_at_again(memory_corpus):
    """Two documents share the first and the last of their 10,000 words."""
    texts = []
    for one in range(2):
        own = " ".join(f"d{one}w{at}" for at in range(10_000))
        texts.append(f"{_LICENCE} {own} {_LICENCE.replace('licence', 'end')}")
    corpus = memory_corpus(texts, 2)
    assert _words_cut(_run(corpus)) == 240
    for table in corpus.made["regions"]:
        lengths = [len(text.split()) for text in table.column("text").to_pylist()]
        assert len(lengths) == 2
        assert max(lengths) < 120 + 50
