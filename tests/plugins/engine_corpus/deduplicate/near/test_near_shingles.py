"""Words, shingles, signatures and bands of documents."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pydoc_data.topics import topics

import numpy as np
import pyarrow as pa
import pytest
from engine_corpus.deduplicate.near.banding import Banding, banding_for
from engine_corpus.deduplicate.near.hashing import mixed
from engine_corpus.deduplicate.near.shingles import BLOCK, shingle_sets, shingled
from engine_corpus.deduplicate.near.signatures import band_hashes
from hypothesis import given, settings, strategies as st
from scipy import stats

TEXTS = st.text(st.sampled_from("aAb_1é\u0301ß世は .-\n\U00020000\u00a0"), max_size=30)


def _column(*texts: str) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def _set(text: str, size: int) -> np.ndarray:
    (found,) = shingle_sets(_column(text), size)
    return found


def _words(text: str) -> list[str]:
    """Written for the characters above: ideographs and kana are words by themselves."""
    found = re.findall("[世は\U00020000]|[aAb_1é\u0301ß]+", text)
    return [re.sub("A", "a", word) for word in found]


def _shingles(text: str, size: int) -> set[tuple[str, ...]]:
    words = _words(text)
    if len(words) < size:
        return {tuple(words)} - {()}
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(1, 5))
def test_shingles_are_equal_where_their_words_are(texts, size):
    """Whatever stands beside a document: hashes and shingles correspond one to one."""
    blocks = list(shingled(_column(*texts), size))
    hashes = np.concatenate([block.hashes for block in blocks])
    ends = np.cumsum(np.concatenate([block.counts for block in blocks]))
    assert len(ends) == len(texts)
    apart = [set(one.tolist()) for one in np.split(hashes, ends[:-1])]
    assert [set(_set(text, size).tolist()) for text in texts] == apart
    for own, together in zip(apart, shingle_sets(_column(*texts), size), strict=True):
        assert sorted(own) == together.tolist()
    wanted = [_shingles(text, size) for text in texts]
    assert [len(one) for one in apart] == [len(one) for one in wanted]
    for i, a in enumerate(texts):
        for j in range(i):
            common = wanted[i] & wanted[j]
            assert len(apart[i] & apart[j]) == len(common), (a, texts[j])


def test_hashes_never_change():
    """Bands are kept with prepared corpora, and compared by later versions."""
    texts = _column("Of making many BOOKS there is no end", "Ædificare 世界")
    copies, bands = band_hashes(texts, 5, Banding(2, 3))
    assert copies.tolist() == [8887744721138928826, 13139129233005214904]
    assert bands.tolist() == [
        [4191827869065878718, 12182732431422869908],
        [18440825401081267247, 1830338632894611138],
    ]


def test_mixing_is_a_bijection_of_all_bits():
    """Close numbers become far ones: about half of the bits differ."""
    found = mixed(np.arange(10_000, dtype=np.uint64))
    assert len(np.unique(found)) == len(found)
    changed = np.bitwise_count(found[1:] ^ found[:-1]).mean()
    assert 31.5 < changed < 32.5


def test_a_long_document_has_the_shingles_of_its_words():
    """Longer than a block, with words across the blocks' ends, in ASCII and beyond."""
    chance = random.Random(3)
    for alphabet in ("abcd", "aé世b"):
        words = ["".join(chance.choices(alphabet, k=7)) for _ in range(BLOCK // 4)]
        text = " ".join(words)
        parts = [" ".join(words[at : at + 1004]) for at in range(0, len(words), 1000)]
        apart = [_set(part, 5) for part in parts]
        assert np.array_equal(_set(text, 5), np.unique(np.concatenate(apart)))


@pytest.mark.parametrize("letter", ["a", "é"])
def test_a_word_longer_than_a_block_is_cut(letter):
    """It takes neither long nor much memory, and the document is still equal to itself."""
    text = letter * 3 * BLOCK + " and so on"
    assert np.array_equal(_set(text, 2), _set(text, 2))
    assert 3 <= len(_set(text, 2)) <= 9


def test_bands_are_a_document_s_own():
    """The same from a batch as alone, and none without words."""
    texts = ["", "...", "one", *list(topics.values())[:40]]
    copies, bands = band_hashes(_column(*texts), 5, Banding(21, 6))
    for text, copy, own in zip(texts, copies, bands, strict=True):
        alone = band_hashes(_column(text), 5, Banding(21, 6))
        assert alone[0].tolist() == [copy]
        assert np.array_equal(alone[1][0], own)
    assert not copies[:2].any()
    assert not bands[:2].any()
    assert copies[2:].all()
    assert bands[2:].all()


@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.5, 0.8, 0.9, 1.0])
def test_bands_propose_nearly_all_pairs_at_the_threshold(threshold):
    """With as many permutations as there are, and wider bands would not."""
    banding = banding_for(threshold, 128)
    assert banding.permutations <= 128
    if banding.rows > 1:
        assert banding.proposed(threshold) >= 0.99
    wider = Banding(128 // (banding.rows + 1), banding.rows + 1)
    assert not wider.bands or wider.proposed(threshold) < 0.99
    assert banding.curve()[0] == (0, 0)
    assert banding.curve()[-1] == (1, 1)


def _edited_copies(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of so many documents to their edited copies, and whether bands propose the pairs."""
    vocabulary = sorted({word for text in topics.values() for word in re.findall(r"\w+", text)})
    chance = random.Random(seed)
    pairs = []
    for _ in range(count):
        words = chance.choices(vocabulary, k=chance.randint(100, 400))
        copy = list(words)
        for _ in range(round(len(words) * chance.random() * 0.16)):
            copy[chance.randrange(len(copy))] = chance.choice(vocabulary)
        pairs.append((" ".join(words), " ".join(copy)))
    firsts, copies = (
        band_hashes(_column(*side), 5, Banding(21, 6))[1] for side in zip(*pairs, strict=True)
    )
    found = []
    for a, b in pairs:
        one, other = (_five_words(text.casefold().split()) for text in (a, b))
        found.append(len(one & other) / len(one | other))
    return np.array(found), (firsts == copies).any(axis=1)


def _five_words(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def test_pairs_are_proposed_as_often_as_the_curve_says():
    """2,000 edited copies: in each bin of similarity within the binomial's 99.9 % interval."""
    similarities, proposed = _edited_copies(2000, seed=1)
    bins = np.linspace(0.3, 1, 15)
    checked = 0
    for low, high in pairwise(bins):
        inside = (similarities >= low) & (similarities < high)
        if inside.sum() < 20:
            continue
        chances = 1 - (1 - similarities[inside] ** 6) ** 21
        least, most = stats.binom.interval(0.999, inside.sum(), chances.mean())
        assert least <= proposed[inside].sum() <= most, (low, high)
        checked += inside.sum()
    assert checked > 1500
