"""Words and phrases of a list are found."""

from __future__ import annotations

from engine_corpus.judge.rules.config import WordList
from engine_corpus.judge.rules.word_list import build

from engine import Text
from engine.testing import processed


def test_words_and_phrases_are_found_whole_and_without_case():
    """A word inside another is none; phrases may stand over line breaks, and may overlap."""
    made = build(WordList(list=("bad", "Very Bad word", "STRASSE", "c++")), None)
    cases = {
        "badminton": 0,
        "Bad, and BAD.": 2,
        "a very\nbad  word": 2,
        "very bad words": 1,
        "die Straße": 1,
        "C++ is here": 1,
        "": 0,
    }
    assert {text: made.judge(text).measures["count"] for text in cases} == cases


def test_a_share_counts_the_words_of_all_occurrences():
    """Each word once, also where occurrences overlap."""
    made = build(WordList(list=("bad", "bad word"), max_share=0.5), None)
    assert made.judge("a bad word here").measures["share"] == 0.5
    assert made.judge("a bad word here").rule is None
    assert made.judge("bad word here").rule == "word-list"


def test_either_limit_drops():
    """Without any, one occurrence does."""
    text = "bad a b c d e f g"
    records = [Text(id="a", source="s", text=text)]
    limits = [{}, {"max_count": 1}, {"max_share": 0.2}, {"max_count": 1, "max_share": 0.1}]
    found = [
        processed(build(WordList(list=("bad",), **limit), None), records)[0] for limit in limits
    ]
    assert found == ["word-list", *records, *records, "word-list"]
