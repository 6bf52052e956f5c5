"""The text without its passages, what is told of them, and the step in a preparation."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from engine_corpus.deduplicate.substring.config import SubstringDedup
from engine_corpus.deduplicate.substring.cutting import spans_of
from engine_corpus.deduplicate.substring.step import build

from engine import Text
from engine.testing import check_component, processed

_KEEPER = "a b c, and many words more than any other document has"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("x a b c y", "x y"),
        ("x  a b c\ty", "x\ty"),
        ("one\n\na b c two", "one\n\ntwo"),
        ("one a b c,\n\ntwo", "one\n\ntwo"),
        ("one\n\na b c,\n\ntwo", "one\n\ntwo"),
        ("one\n\na b c,\ntwo", "one\n\ntwo"),
        ("one\n\n\na b c,\n    two", "one\n\n\n    two"),
        ("def f():\n    a\n    b\n    c,\n        return", "def f():\n        return"),
        ("a b c, two\n", "two\n"),
        ("\n\n  a b c,\n\n    two", "    two"),
        ("one\n\na b c,\n", "one\n"),
        ("one a b c,", "one"),
        ("one\n\na b c, two\n\na b c, three", "one\n\ntwo\n\nthree"),
        (" one a b c, two ", " one two "),
    ],
)
def test_paragraphs_and_indentation_stay(deduplicated, text, left):
    """The line breaks of the side that has more of them, and the indentation of what follows."""
    assert deduplicated([_KEEPER.replace("c,", "c c,") + " a b c,", text])[1].text == left


def test_a_document_of_which_nothing_remains_falls(deduplicated):
    """Whatever white space is around its words."""
    kept, fallen = deduplicated([_KEEPER, "\n a b\tc, and \n\n"])
    assert kept.text == _KEEPER
    assert (fallen.text, fallen.rule) == (None, "repeated-passages")
    assert fallen.cut == {0, 1, 2, 3}


def test_spans_are_in_characters(deduplicated):
    """Of the text as it was, also after characters of several bytes."""
    text = "é 🙂🙂 ß a b c, 世界"
    found = deduplicated([_KEEPER, text])[1]
    assert [text[start:end] for start, end, _ in found.spans] == ["a b c,"]
    assert found.text == "é 🙂🙂 ß 世界"


def test_passages_that_overlap_are_told_without_overlaps(deduplicated):
    """A word belongs to the passage that starts first, and each span has its keeper."""
    texts = ["long long text is the longest p q r s", "longer text r s t u v", "x p q r s t u y"]
    found = deduplicated(texts)[2]
    assert found.text == "x y"
    assert found.spans == [(2, 9, "000000"), (10, 13, "000001")]
    assert spans_of([(0, 5, "a"), (1, 3, "b"), (5, 2, "a"), (6, 3, "b")]) == [
        (0, 7, "a"),
        (7, 9, "b"),
    ]


@pytest.mark.parametrize("parts", [1, 3, pytest.param(7, marks=pytest.mark.soak)])
def test_a_preparation_cuts_passages_and_tells_them(library, deduplicated, parts):
    """The engine's own verbs, with files, give what those in memory give."""
    texts = [*library(12), "", " \n", "one"]
    records = [Text(id=f"{number:06d}", source="s", text=text) for number, text in enumerate(texts)]
    outcomes = processed(build(SubstringDedup(), None), records, parts=parts)
    found = [one if isinstance(one, str) else one.text for one in outcomes]
    expected = deduplicated(texts, words=50)
    assert found == [one.rule or one.text for one in expected]
    assert found != texts


def test_columns_have_types_and_a_summary(memory_corpus):
    """The summary names the documents that keep the most passages."""
    corpus = memory_corpus(["a b c d long", "a b c x", "y a b c", "p q r s t", "z p q r"], 2)
    step = build(SubstringDedup(words=3), None)
    found = [table for table in step.run(corpus).tables if table.num_rows]
    for table in found:
        assert table.schema.field("text").type == pa.large_string()
        assert table.schema.field("drop").type == pa.string()
        assert table.schema.field("substring_words").type == pa.int64()
        assert table.schema.field("substring_spans").type == pa.string()
    summary = step.summary(iter(found))
    assert summary == {"documents": 3, "passages": 3, "words": 9, "keepers": {"0": 2, "3": 1}}
    assert json.loads(json.dumps(summary)) == summary


def test_the_step_keeps_its_contract():
    """As the kit for plugin authors checks it."""
    check_component("corpus-step", {"type": "substring-dedup", "words": 3, "ignore": ["case"]})
