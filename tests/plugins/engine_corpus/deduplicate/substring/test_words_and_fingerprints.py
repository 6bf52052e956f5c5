"""Words of many texts at once, their hashes and numbers, and winnowing."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest
from engine_corpus.deduplicate.substring.fingerprints import grams, winnowed
from engine_corpus.deduplicate.substring.numbering import first_places, numbered
from engine_corpus.deduplicate.substring.words import blocks, hashes, texts_of, words_of
from hypothesis import example, given, settings, strategies as st

_spaces = "".join(chr(code) for code in range(sys.maxunicode) if chr(code).isspace())


def _array(texts):
    return pa.array(texts, pa.large_string())


@settings(max_examples=150, deadline=None)
@example([" ".join(f"{one}" for one in _spaces)])
@example(["".join(f"a{one}b" for one in _spaces)])
@given(st.lists(st.text(st.sampled_from("ab\0é‿\u200b…🙂" + _spaces)), max_size=6))
def test_words_are_those_of_str_split(texts):
    """In texts that follow each other in memory, with every kind of white space."""
    words = words_of(_array(["x", *texts])[1:])
    found = words.strings().to_pylist()
    apart = [found[a:b] for a, b in zip(words.texts, words.texts[1:], strict=False)]
    assert apart == [text.split() for text in texts]
    for number, word in enumerate(found):
        assert words.passage(number, 1) == word


def test_blocks_have_all_texts_in_order():
    """Also empty texts, and one that is larger than a block."""
    texts = ["", "a b", "c " * 400_000, "", *["d e f" * 1000] * 200, ""]
    found = [
        (first + at, int(count))
        for first, block in blocks(_array(texts))
        for at, count in enumerate(np.diff(block.texts))
    ]
    assert found == [(at, len(text.split())) for at, text in enumerate(texts)]
    assert len(list(blocks(_array(texts)))) > 3


def test_folding_case_keeps_the_numbers_of_words():
    """For every character, as places in the text as it was are counted in words."""
    letters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    table = pa.table({"text": _array([" ".join(letters)])})
    folded = texts_of(table, ignore_case=True)[0].as_py()
    assert len(folded.split()) == len(" ".join(letters).split())


def test_hashes_of_words_are_the_same_for_ever():
    """Preparations that were broken off go on with another version of a library."""
    words = ["a", "b\0", "straße", "x" * 8, "x" * 9, "y" * 64, "y" * 65]
    found = hashes(words_of(_array([" ".join(words)]))).tolist()
    assert found == [
        0xFB761138E1E0A78C,
        0xB8677EF8DE17555C,
        0x4B5620E219AC213D,
        0x2572B0004780B4B4,
        0x85EED3B8C6AB2315,
        0x8957507C248AAF7F,
        0xAF0D7BB8E6E0DCC3,
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab\0"), min_size=1, max_size=80), min_size=1))
def test_equal_words_and_no_others_have_equal_hashes(words):
    """Wherever they stand."""
    found = hashes(words_of(_array([" ".join(words)])))
    by_hash = dict(zip(found.tolist(), words, strict=True))
    assert len(by_hash) == len(set(words))
    assert [by_hash[one] for one in found.tolist()] == words


_values = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def _naive(values: np.ndarray, length: int) -> list[tuple[int, ...]]:
    return [tuple(values[at : at + length].tolist()) for at in range(len(values) - length + 1)]


@settings(max_examples=60, deadline=None)
@given(_values, st.integers(1, 20))
def test_runs_of_words_are_equal_where_hashes_and_numbers_are(values, length):
    """The hash of a run depends on nothing beside it."""
    words = np.array(values, np.int32)
    runs = _naive(words, length)
    found = grams(words.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03), length)
    assert len(found) == len(runs)
    if runs:
        order = list(dict.fromkeys(runs))
        for keys in (found, found & np.uint64(1)):  # the latter are equal for runs that are not
            numbers = numbered(words, length, np.arange(len(runs)), keys).tolist()
            assert numbers == [order.index(run) for run in runs]
        assert len(set(zip(runs, found.tolist(), strict=True))) == len(order)
        assert first_places(np.array(numbers)).tolist() == [runs.index(run) for run in order]


@settings(max_examples=60, deadline=None)
@given(st.lists(_values, min_size=1, max_size=5), st.integers(1, 12))
def test_each_window_has_the_least_hash_of_its_grams(texts, length):
    """This is the guarantee of winnowing: the same window has the same fingerprint in every text."""
    words = np.concatenate([np.array(text, np.uint64) for text in texts]) * np.uint64(
        12345678912345
    )
    offsets = np.cumsum([0, *map(len, texts)])
    found = winnowed(words, offsets, length)
    pieces = [found.text, found.first, found.windows, found.values]
    told = {
        (text, first + at): value
        for text, first, count, value in zip(*map(np.ndarray.tolist, pieces), strict=True)
        for at in range(count)
    }
    gram = -(-length // 2)
    expected = {
        (text, at): min(grams(words[offsets[text] + at :][:length], gram).tolist())
        for text, count in enumerate(map(len, texts))
        for at in range(count - length + 1)
    }
    assert told == expected
    assert sum(found.windows) == len(expected)


@pytest.mark.parametrize("repeated", [False, True])
def test_few_fingerprints_stand_for_many_windows(repeated):
    """2 / (w + 1) of random words, as in the paper, where a window has w hashes; one of equal words."""
    words = np.random.default_rng(1).integers(0, 1 << 63, 100_000).astype(np.uint64)
    if repeated:
        words[:] = words[0]
    found = winnowed(words, np.array([0, words.size]), 50)
    expected = 1 if repeated else 2 / 27 * words.size
    assert found.values.size == pytest.approx(expected, rel=0.02)
