"""Words and n-grams of whole arrays are those of one text at a time."""

from __future__ import annotations

import pydoc_data.topics
import re

import numpy as np
import pytest
from engine_corpus.decontaminate.words import Words, hashes_at, ngrams
from hypothesis import given, settings, strategies as st

TEXTS = sorted(pydoc_data.topics.topics.values())
TRICKY = st.text(
    st.sampled_from("aAbé0_ .\n“ﬁ½\uff21世界한İß\u0301\u00ad\u200b≠กำ"), min_size=0, max_size=30
)


def _of(text):
    return Words.of([text]).hashes.tolist()


def test_words_are_runs_of_letters_and_digits_without_case():
    """Equal words have equal hashes, and others different ones."""
    known = {}
    for text in "\n".join(TEXTS).split("\n\n"):
        if text.isascii():
            words = re.findall("[a-z0-9]+", text.lower())
            for word, found in zip(words, _of(text), strict=True):
                assert known.setdefault(word, found) == found
    assert len(known) > 2000
    assert len(set(known.values())) == len(known)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The “same”\nWORDS, again", "the same words again"),
        ("ﬁne \uff21\uff11 naïve café", "fine a1 naive cafe"),
        ("co\u00adoperate", "cooperate"),
        ("cafe\u0301", "café"),
        ("世界", "世 界"),
        ("ten\u00a0words\u2028more", "ten words more"),
    ],
)
def test_spelling_of_the_same_words_makes_no_difference(one, other):
    """Case, punctuation, white space, accents and compatibility forms."""
    assert _of(one) == _of(other)
    assert _of(one) != _of(f"{other} more")


@settings(max_examples=60, deadline=None)
@given(st.lists(TRICKY, max_size=6))
def test_texts_together_have_the_words_that_each_has_alone(texts):
    """And each word stands in the characters that are told."""
    words = Words.of(texts)
    bounds = zip(words.first[:-1], words.first[1:], strict=True)
    assert [words.hashes[a:b].tolist() for a, b in bounds] == [_of(text) for text in texts]
    every = np.arange(len(words.hashes))
    for number, text in enumerate(texts):
        inside = every[words.text_of(every) == number]
        for word, (start, end) in zip(
            inside, words.characters(number, text, inside, inside), strict=True
        ):
            assert words.hashes[word] in _of(text[start:end])


def test_long_texts_are_hashed_as_short_ones():
    """Wherever the blocks end in which it is done."""
    long = "\n".join(TEXTS)
    alone = [found for text in TEXTS for found in _of(text)]
    words = Words.of([long])
    assert len(long) > 4 * 2**16
    assert words.hashes.tolist() == alone
    places = np.arange(len(alone) - 12)
    assert (
        ngrams(words.hashes, 13) == hashes_at(words.hashes, places, np.full(len(places), 13))
    ).all()


def test_one_endless_word_is_hashed():
    """Though it is longer than a block."""
    assert len(_of("x" * 300_000)) >= 1
    assert _of("x" * 300_000 + " end")[-1] == _of("end")[0]
