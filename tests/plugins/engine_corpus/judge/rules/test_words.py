"""How text is split into words."""

from __future__ import annotations

import time

import pytest
from engine_corpus.judge.rules.words import splitter
from hypothesis import example, given, settings, strategies as st

unicode_words, whitespace_words = splitter("unicode"), splitter("whitespace")


def test_punctuation_inside_a_word_belongs_to_it():
    """But for marks that join words, which stand alone."""
    text = 'Don\'t say "os.path=3.14, or a/b"... x--y; __name__'
    expected = 'Don\'t say " os.path = 3.14 , or a / b " ... x -- y ; _ _ name _ _'.split()
    assert unicode_words(text) == expected
    assert whitespace_words(text) == text.split()


def test_combining_marks_stay_with_their_letter():
    """In every script, and after symbols."""
    words = ["हिन्दी", "में", "e\u0301te\u0301", "שָׁלוֹם", "❤\ufe0f", "👍", "🏽"]
    assert unicode_words(" ".join(words[:-2]) + " 👍🏽") == words


@settings(max_examples=60, deadline=None)
@given(st.text() | st.text("ab1_-./'\u00e9\u0301 \n\x1c\u2028", max_size=30))
@example("\0\x1c\x85\u200b")
def test_words_are_all_of_the_text_but_white_space(text):
    """With either split; other characters beside ASCII do not change how ASCII is split."""
    for split in (unicode_words, whitespace_words):
        assert "".join(split(text)) == "".join(text.split())
        assert all(word and not any(map(str.isspace, word)) for word in split(text))
    assert unicode_words(text + " é") == [*unicode_words(text), "é"]


@pytest.mark.parametrize(
    "unit", ["a", ".", "a.", "a!", "!a", "-", "_", "a_", "é", "\u0301", "e\u0301", "\0"]
)
def test_time_grows_with_the_length(unit):
    """300,000 times the same takes at most a second on any machine, not a time that grows with the
    square of it."""
    text = unit * (300_000 // len(unit))
    start = time.process_time()
    words = unicode_words(text)
    assert time.process_time() - start < 1
    assert "".join(words) == text
