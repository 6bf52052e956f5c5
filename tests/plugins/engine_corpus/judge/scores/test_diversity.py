"""Diversity: the expected share of different n-grams in a sample of fixed size."""

from __future__ import annotations

from collections import Counter
from math import comb

import numpy as np
import pyarrow as pa
import pytest
from engine_corpus.judge.scores.diversity import diversities
from engine_corpus.judge.scores.words import Words, words_of
from hypothesis import given, settings, strategies as st


def _formula(words, sample):
    """Hurlbert's formula for pairs and triples, with exact binomials."""
    shares = []
    for length in (2, 3):
        ngrams = Counter(zip(*(words[at:] for at in range(length)), strict=False))
        total = ngrams.total()
        drawn = min(total, sample)
        different = sum(1 - comb(total - n, drawn) / comb(total, drawn) for n in ngrams.values())
        shares.append(different / drawn if total else 1.0)
    return sum(shares) / 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), min_size=1, max_size=4),
    st.integers(2, 30),
)
def test_it_equals_the_formula(texts, sample):
    """Of texts of few words, which repeat; whatever stands beside."""
    found = diversities(words_of([" ".join(words) for words in texts]), sample)
    assert found == pytest.approx([_formula(words, sample) for words in texts], abs=1e-12)


def test_it_does_not_fall_with_the_length_of_a_text(topics):
    """As the plain share of different n-grams does: long texts, and their passages of 600 words."""
    longest = [text.split() for text in sorted(topics, key=len)[-4:]]
    whole = words_of([" ".join(words) for words in longest])
    cut = [words[at : at + 600] for words in longest for at in range(0, len(words) - 600, 600)]
    passages = words_of([" ".join(words) for words in cut])
    at_500, plain = (
        diversities(whole, sample).mean() - diversities(passages, sample).mean()
        for sample in (500, 10**6)
    )
    assert abs(at_500) < 0.06
    assert plain < -0.15


def test_repetition_lowers_it_also_at_a_distance(topics):
    """One line again and again, and a passage of 200 words again and again."""
    passage = " ".join(max(topics, key=len).split()[:200]) + "\n"
    line = "All work and no play makes Jack a dull boy.\n"
    once, often, lines = diversities(words_of([passage, passage * 50, line * 500]), 500)
    assert once > 0.8
    assert often < 0.5 * once
    assert lines < 0.05


def test_texts_of_few_words_have_a_diversity():
    """None has 0, one word 1: nothing in it is repeated."""
    assert diversities(words_of(["", " \n", "word", "a b", "a a a"]), 500).tolist() == [
        0, 0, 1, 1, (1 / 2 + 1) / 2,
    ]  # fmt: skip


def test_many_different_words_are_told_apart():
    """Also where pairs and triples of them are too many for numbers of 64 bits."""
    many = 2**22
    codes = np.random.default_rng(3).choice([0, 1, 2**20, 2**21, 2**21 + 1], 300)
    renumbered = np.searchsorted(np.unique(codes), codes)
    found = diversities(Words(codes, np.array([300]), pa.nulls(many)), 50)
    assert found == diversities(Words(renumbered, np.array([300]), pa.nulls(5)), 50)
