"""The Kneser–Ney model equals nltk's and the formula, worked out word by word."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from engine_corpus.judge.scores.hash_table import HashTable
from engine_corpus.judge.scores.ngram_model import NgramModel
from engine_corpus.judge.scores.words import words_of
from hypothesis import given, settings, strategies as st
from nltk.lm import KneserNeyInterpolated


def _divided(words):
    names, ends = words.distinct.to_pylist(), np.cumsum(words.counts)
    return [
        [names[code] for code in words.codes[end - count : end]]
        for count, end in zip(words.counts, ends, strict=True)
    ]


def _ngrams(text, order):
    """All n-grams of 1 to ``order`` words that end in a word, with marks before the text."""
    marked = ["<s>"] * (order - 1) + text
    for end in range(order - 1, len(marked)):
        for length in range(1, order + 1):
            yield tuple(marked[end - length + 1 : end + 1])


@pytest.mark.parametrize("order", [2, 3, 4])
def test_probabilities_of_known_words_equal_those_of_nltk(order, topics):
    """With the same discount everywhere but for single words, which nltk does not discount."""
    reference = words_of(topics[:5])
    ours = NgramModel(reference, order, [0.0] + [0.75] * (order - 1))
    theirs = KneserNeyInterpolated(order, discount=0.75)
    texts = _divided(reference)
    known = ["<s>", *(word for text in texts for word in text)]
    theirs.fit([list(_ngrams(text, order)) for text in texts], known)
    tested = words_of([topics[0][:500], topics[20][:400], topics[21][:400]])
    found = iter(np.exp(ours.log_probabilities(tested)))
    compared = []
    for text in _divided(tested):
        for ngram in list(_ngrams(text, order))[order - 1 :: order]:
            probability = next(found)
            if ngram[-1] in theirs.vocab:
                compared.append((probability, theirs.unmasked_score(ngram[-1], ngram[:-1])))
            else:
                assert probability == 0
    assert len(compared) > 100
    assert max(abs(a - b) for a, b in compared) < 1e-9


class _Formula:
    """Chen & Goodman's formula with dictionaries of counts."""

    def __init__(self, texts, order):
        self.order = order
        ngrams = Counter(ngram for text in texts for ngram in _ngrams(text, order))
        self.vocabulary = {ngram[0] for ngram in ngrams if len(ngram) == 1}
        self.counts = {order: {n: c for n, c in ngrams.items() if len(n) == order}}
        for length in range(order - 1, 0, -1):  # different words before each n-gram
            longer = (ngram for ngram in ngrams if len(ngram) == length + 1)
            self.counts[length] = Counter(ngram[1:] for ngram in longer)
        self.followers, self.discounts = {}, {}
        for length, counts in self.counts.items():
            once, twice = (sum(c == n for c in counts.values()) for n in (1, 2))
            self.discounts[length] = once / (once + 2 * twice) if once else 0.5
            self.followers[length] = defaultdict(dict)
            for ngram, count in counts.items():
                self.followers[length][ngram[:-1]][ngram[-1]] = count

    def __call__(self, word, context):
        length = len(context) + 1
        found = self.followers[length].get(context)
        lower = self(word, context[1:]) if context else 1 / (len(self.vocabulary) + 1)
        if not found:
            return lower
        total, discount = sum(found.values()), self.discounts[length]
        kept = max(found.get(word, 0) - discount, 0) / total
        return kept + discount * len(found) / total * lower


@pytest.mark.parametrize("order", [2, 3, 5])
def test_probabilities_equal_the_formula(order, topics):
    """With discounts estimated for each length, unknown words included."""
    reference = words_of(topics[:10])
    model, formula = NgramModel(reference, order), _Formula(_divided(reference), order)
    tested = words_of([topics[1], topics[30][:3000], "zyxgy wvu zyxgy the of", ""])
    expected = [
        math.log(formula(ngram[-1], ngram[:-1]))
        for text in _divided(tested)
        for ngram in list(_ngrams(text, order))[order - 1 :: order]
    ]
    found = model.log_probabilities(tested)
    assert len(found) == len(expected) > 700
    assert np.abs(found - expected).max() < 1e-9


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), min_size=1, max_size=4),
    st.lists(st.sampled_from("abcdxy"), max_size=4),
    st.integers(2, 4),
)
def test_probabilities_after_any_context_sum_to_one(texts, context, order):
    """Over the vocabulary and the unknown word, also in a model of a few words."""
    reference = words_of([" ".join(text) for text in texts])
    model = NgramModel(reference, order)
    every = [*reference.distinct.to_pylist(), "z"]
    tested = words_of([" ".join([*context, word]) for word in every])
    last = model.log_probabilities(tested)[np.cumsum(tested.counts) - 1]
    assert np.exp(last).sum() == pytest.approx(1, abs=1e-12)


def test_a_text_of_the_reference_is_likelier_than_one_of_another_kind(topics, library):
    """What perplexity is for: held-out help is likelier than code and than its own words shuffled."""
    model = NgramModel(words_of(topics[:60]), 3)
    words = topics[70].split()
    shuffled = " ".join(np.random.default_rng(1).permutation(words))
    texts = [topics[70], shuffled, library("heapq.py")[0], "qwe rty uio pas dfg " * 50]
    found = (model.log_probabilities(words_of([text])) for text in texts)
    perplexities = [np.exp(-one.mean()) for one in found]
    assert perplexities[0] == min(perplexities) < 0.6 * perplexities[1]
    assert perplexities[3] == max(perplexities)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 2**64 - 2)), st.lists(st.integers(0, 2**64 - 2)))
def test_a_table_finds_its_keys_and_no_others(keys, others):
    """At the positions in which they were given."""
    given_keys = np.array(list(keys), np.uint64)
    table = HashTable(given_keys)
    assert table.find(given_keys).tolist() == list(range(len(keys)))
    found = table.find(np.array(others, np.uint64))
    assert [at >= 0 for at in found] == [other in keys for other in others]
