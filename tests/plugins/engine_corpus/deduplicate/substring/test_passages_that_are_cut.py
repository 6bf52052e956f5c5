"""Which passages are cut, and out of which documents."""

from __future__ import annotations

import random

import numpy as np
import pytest
from engine_corpus.deduplicate.substring import keepers
from hypothesis import example, given, settings, strategies as st


def _expected(texts, places, words):
    """Of each document the words in windows that a document in a higher place has, and for each word
    the document in the highest place that has the first of these windows."""
    split = [text.split() for text in texts]
    best = {}
    for one in sorted(range(len(texts)), key=lambda one: places[one]):
        for at in range(len(split[one]) - words + 1):
            best.setdefault(tuple(split[one][at : at + words]), one)
    found = []
    for one, text in enumerate(split):
        cut = {}
        for at in range(len(text) - words + 1):
            keeper = best[tuple(text[at : at + words])]
            if keeper != one:
                for word in range(at, at + words):
                    cut.setdefault(word, keeper)
        found.append(cut)
    return found


_texts = st.lists(
    st.lists(st.sampled_from("aab"), max_size=24).map(" ".join)
    | st.lists(st.sampled_from(["x", "yy", "Zé", "w w w"]), max_size=16).map("\n".join),
    min_size=1,
    max_size=7,
)


def _check_against_expected(deduplicated, places, texts, words, parts, priorities):
    priorities = priorities[: len(texts)]
    outcomes = deduplicated(texts, words=words, parts=parts, priorities=priorities)
    expected = _expected(texts, places(texts, priorities=priorities), words)
    assert [outcome.cut for outcome in outcomes] == [set(cut) for cut in expected]
    for text, outcome, cut in zip(texts, outcomes, expected, strict=True):
        keepers = []
        for word in sorted(cut):
            last = keepers[-1] if keepers else None
            if last and last[1:] == (word - 1, cut[word]):
                keepers[-1] = (last[0], word, cut[word])
            else:
                keepers.append((word, word, cut[word]))
        numbers = [len(text[:start].split()) for start, _, _ in outcome.spans]
        ids = [
            (number, int(keeper))
            for number, (_, _, keeper) in zip(numbers, outcome.spans, strict=True)
        ]
        assert ids == [(first, keeper) for first, _, keeper in keepers]
        assert (outcome.rule == "repeated-passages") == (0 < len(cut) == len(text.split()))


_settings = {
    "texts": _texts,
    "words": st.integers(1, 7),
    "parts": st.integers(1, 4),
    "priorities": st.lists(st.integers(-1, 1), min_size=7, max_size=7),
}


@settings(max_examples=60, deadline=None)
@example(["a b c", "a b c"], 3, 2, [0] * 7)
@given(**_settings)
def test_words_are_cut_where_a_higher_document_has_the_window(
    deduplicated, places, texts, words, parts, priorities
):
    """Over small alphabets, where repeats abound, as comparing all windows says, with their keepers."""
    _check_against_expected(deduplicated, places, texts, words, parts, priorities)


@pytest.mark.soak
@settings(max_examples=1500, deadline=None)
@given(**_settings)
def test_words_are_cut_where_a_higher_document_has_the_window_in_thousands_of_corpora(
    deduplicated, places, texts, words, parts, priorities
):
    """The same with more examples."""
    _check_against_expected(deduplicated, places, texts, words, parts, priorities)


def _planted(count: int, seed: int):
    """Documents of random words, some with a passage that two other documents have too."""
    chance = random.Random(seed)
    fresh = iter(range(10**9))

    def words(number):
        return [f"w{next(fresh)}" for _ in range(number)]

    texts, lengths = [], []
    for number in range(count):
        length = [49, 50, 500, chance.randrange(51, 500)][number % 4]
        passage = words(length)
        for _ in range(3):
            before, after = words(chance.randrange(0, 90)), words(chance.randrange(1, 90))
            texts.append((before, passage, after))
        lengths.append(length)
    return texts, lengths


@pytest.mark.covers("processor/substring-dedup.words")
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.soak)])
def test_planted_passages_of_50_to_500_words_are_all_found_and_none_of_49(deduplicated, count):
    """Of three documents that have a passage one keeps it; nothing else is cut."""
    planted, lengths = _planted(count, seed=5)
    texts = [" ".join(before + passage + after) for before, passage, after in planted]
    order = np.random.default_rng(3).permutation(len(texts))
    outcomes = deduplicated([texts[at] for at in order], words=50, parts=3)
    found = [None] * len(texts)
    for outcome, at in zip(outcomes, order, strict=True):
        found[at] = outcome
    for number, length in enumerate(lengths):
        trio = range(3 * number, 3 * number + 3)
        cut = []
        for at in trio:
            start = len(planted[at][0])
            cut.append(found[at].cut)
            assert found[at].cut in (set(), set(range(start, start + length)))
        assert sum(map(bool, cut)) == (2 if length >= 50 else 0), length


@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.soak)])
def test_outcomes_depend_neither_on_parts_nor_on_the_order_of_documents(
    deduplicated, library, count
):
    """On the standard library, in 1, 3 and 7 parts, and shuffled."""
    texts = library(count)
    ids = [f"{number}" for number in range(len(texts))]
    first = dict(zip(ids, deduplicated(texts, words=20, ids=ids), strict=True))
    assert sum(bool(outcome.cut) for outcome in first.values()) > 5
    for parts in (3, 7):
        order = np.random.default_rng(parts).permutation(len(texts))
        chosen, names = [texts[at] for at in order], [ids[at] for at in order]
        again = deduplicated(chosen, words=20, ids=names, parts=parts)
        assert dict(zip(names, again, strict=True)) == first


def test_the_document_in_the_highest_place_keeps_a_passage(deduplicated):
    """The highest priority comes first, then the longest text, then the first id."""
    texts = ["a b c d", "a b c dd", "a b c e"]
    assert [bool(one.cut) for one in deduplicated(texts)] == [True, False, True]
    same = ["a b c d", "a b c e", "a b c f"]
    kept = deduplicated(same, ids=["y", "x", "z"], parts=3)
    assert [one.text for one in kept] == ["d", "a b c e", "f"]
    assert [one.spans for one in kept] == [[(0, 5, "x")], [], [(0, 5, "x")]]
    kept = deduplicated(texts, priorities=[1, None, 2])
    assert [one.text for one in kept] == ["d", "dd", "a b c e"]


def test_a_passage_that_one_document_has_twice_stays(deduplicated):
    """Only other documents count; but all copies fall where a higher document has the passage."""
    twice = "a b c x a b c"
    assert deduplicated([twice])[0].text == twice
    assert deduplicated([twice, "p q r s t u a b c"])[0].text == "x"
    assert [one.text for one in deduplicated([twice, "a b c z"])] == [twice, "z"]


@pytest.mark.covers("processor/substring-dedup.ignore")
def test_case_counts_unless_it_is_ignored(deduplicated):
    """Case is as Unicode folds it; places in the text are those of the text as it was."""
    texts = ["Die STRASSE ist lang und frei", "x die Straße ist y"]
    assert [one.text for one in deduplicated(texts)] == texts
    assert deduplicated(texts, ignore=("case",))[1].text == "x y"
    assert deduplicated(texts, ignore=("case",))[1].spans == [(2, 16, "000000")]


def test_white_space_between_words_does_not_count(deduplicated):
    """Words are what str.split gives."""
    texts = ["a\u3000b\n\n\tc d longest text", "y a b\u2003c z"]
    assert deduplicated(texts)[1].text == "y z"


@settings(max_examples=30, deadline=None)
@given(**_settings)
def test_windows_that_are_taken_for_each_other_are_not_cut(
    deduplicated, places, texts, words, parts, priorities
):
    """With keys of one bit nearly all windows seem equal; what is cut, another document has."""
    grams = keepers.grams
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keepers, "grams", lambda *given: grams(*given) & np.uint64(1))
        outcomes = deduplicated(texts, words=words, parts=parts)
    expected = _expected(texts, places(texts), words)
    for outcome, cut in zip(outcomes, expected, strict=True):
        assert outcome.cut <= set(cut)
