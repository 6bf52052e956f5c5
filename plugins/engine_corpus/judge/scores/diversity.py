"""Diversity of texts: the expected share of different n-grams in a sample of a fixed size.

The share of different n-grams falls with a text's length, so texts are compared at the same number of
n-grams, drawn at random without replacement: rarefaction (Hurlbert 1971, Ecology 52, equation 5), which
for words is known as HD-D (McCarthy & Jarvis 2010, Behavior Research Methods 42). Among m of N n-grams
one that occurs c times is expected to be absent with the probability C(N − c, m) / C(N, m). A text with
fewer n-grams is judged by all of them. The diversity is the mean over word pairs and triples, as in
distinct-n (Li et al. 2016, arXiv:1510.03055, section 5).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from engine_corpus.judge.scores.ngram_model import Floats
from engine_corpus.judge.scores.words import Ints, Words

_LENGTHS = (2, 3)
_MOST = 2**63


def diversities(words: Words, sample: int) -> Floats:
    """The diversity of each text, between 0 and 1, at a sample of so many n-grams; a text without
    words has 0, and one of a single word 1, as nothing in it is repeated."""
    text_of, distinct = words.text_of, len(words.distinct)
    shares = np.zeros(len(words.counts))
    grams, several = words.codes, distinct
    for length in _LENGTHS:
        # A number for each different n-gram, from that of its first words and its last word.
        if several * distinct >= _MOST:
            grams = pa.array(grams).dictionary_encode().indices.to_numpy().astype(np.int64)
            several = int(grams.max()) + 1
        grams = grams[: len(grams) - 1] * distinct + words.codes[length - 1 :]
        several *= distinct
        whole = text_of[length - 1 :] == text_of[: len(grams)]
        lengths = np.maximum(words.counts - length + 1, 0)
        shares += _shares(grams[whole], lengths, sample)
    return np.where(words.counts > 0, shares / len(_LENGTHS), 0.0)


def _shares(grams: Ints, total: Ints, sample: int) -> Floats:
    """The expected share of different n-grams in a sample from each text, which has ``total`` of them;
    1 for a text without any."""
    texts = len(total)
    ends = np.cumsum(total)
    for start, end in zip(ends - total, ends, strict=True):
        grams[start:end].sort()
    fresh = np.ones(len(grams), bool)
    fresh[1:] = grams[1:] != grams[:-1]
    fresh[(ends - total)[total > 0]] = True
    starts = np.flatnonzero(fresh)
    occurs = np.diff(np.append(starts, len(grams)))
    # How many n-grams of each text occur once, twice, …: summed in an order that depends on it alone.
    most = int(occurs.max(initial=0)) + 1
    places, several = np.unique(
        np.repeat(np.arange(texts), total)[starts] * most + occurs, return_counts=True
    )
    text, count = np.divmod(places, most)
    drawn = np.minimum(total, sample)
    # C(N − c, m) / C(N, m) is the product of 1 − m / (N − i) over i < c; 0 where N − c < m, as then
    # the n-gram is always drawn.
    absent = np.zeros(len(count))
    missable = np.flatnonzero(total[text] - count >= drawn[text])
    factors = np.repeat(missable, count[missable])
    ends = np.cumsum(count[missable])
    before = np.arange(len(factors)) - np.repeat(ends - count[missable], count[missable])
    whole, size = total[text[factors]], drawn[text[factors]]
    logarithms = np.bincount(factors, np.log1p(-size / (whole - before)), minlength=len(count))
    absent[missable] = np.exp(logarithms[missable])
    different = np.bincount(text, several * (1 - absent), minlength=texts)
    return np.where(total > 0, different / np.maximum(drawn, 1), 1.0)
