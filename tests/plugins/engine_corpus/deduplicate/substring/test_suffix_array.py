"""The step against a suffix array, an independent way to find what documents share."""

from __future__ import annotations

import numpy as np
import pytest


def _covered(texts, words):
    """Of each document, as a suffix array of all words tells, the words in passages of at least so many
    words that any other document has."""
    pydivsufsort = pytest.importorskip("pydivsufsort")
    numbers: dict[str, int] = {}
    split = [text.split() for text in texts]
    coded, document = [], []
    for at, text in enumerate(split):
        coded += [numbers.setdefault(word, len(numbers)) for word in text]
        coded.append(-at - 1)  # a separator of its own, which no passage contains
        document += [at] * (len(text) + 1)
    values = np.unique(np.array(coded), return_inverse=True)[1].astype(np.int64)
    suffixes = pydivsufsort.divsufsort(values)
    common = pydivsufsort.kasai(values, suffixes)[:-1]  # of each suffix and the next
    owner = np.array(document)[suffixes]
    longest = np.zeros(values.size, np.int64)
    for step in (1, -1):  # the nearest suffix of another document on either side
        along = range(values.size - 1) if step == 1 else range(values.size - 1, 0, -1)
        reach = 0
        for at in along:
            here = common[at] if step == 1 else common[at - 1]
            reach = here if owner[at] != owner[at + step] else min(reach, here)
            longest[suffixes[at + step]] = max(longest[suffixes[at + step]], reach)
    covered, base = [], 0
    for text in split:
        cut = set()
        for at, length in enumerate(longest[base : base + len(text)]):
            if length >= words:
                cut.update(range(at, at + int(length)))
        covered.append(cut)
        base += len(text) + 1
    return covered


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [(0, 60, 50), (60, 75, 12), pytest.param(0, 900, 50, marks=pytest.mark.soak)],
)
def test_what_is_cut_equals_what_a_suffix_array_finds(deduplicated, library, first, last, words):
    """On real text. A document keeps what it has in common with lower ones, so the words that any two
    documents share are those that are cut in one order of the documents or in the reverse."""
    texts = library(last)[first:]
    found = [set() for _ in texts]
    for priorities in (range(len(texts)), range(len(texts), 0, -1)):
        outcomes = deduplicated(texts, words=words, priorities=list(priorities), parts=2)
        for cut, outcome in zip(found, outcomes, strict=True):
            cut |= outcome.cut
    expected = _covered(texts, words)
    assert sum(map(len, expected)) > 500
    assert found == expected
