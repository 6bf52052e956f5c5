"""What is searched for: n-grams of benchmarks' items, and the whole of items that have none.

N-grams that more than ten items of a benchmark share belong to its instructions, and n-grams of few
different words, such as rows of numbers, stand in many texts: neither counts.
"""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import BenchmarkTexts
from engine_corpus.decontaminate.words import Hashes, Numbers, Words, ngrams

Owner = tuple[str, str, str]
"""A benchmark, an item and a field."""
FIELDS = ("question", "answer", "passage", "question and answer")
"""Names of an entry's fields, by number: the last one is the whole of both."""
_PASSAGE, _WHOLE = 2, 3
_ENTRY = np.dtype([("key", "<u8"), ("item", "<i4"), ("field", "<i4")])
_PAIR = np.dtype(
    [(name, "<u8") for name in ("key", "question", "answer", "answer_starts", "anchor")]
    + [(name, "<i8") for name in ("question_words", "answer_words", "anchor_words", "anchor_at")]
)
_SHORTEST = 6
"""Words of question and answer together, below which an item is not searched for."""
_ALONE = 8
"""Words of a question without an answer, below which it is not searched for: the shortest n-gram of
Brown et al. 2020 (arXiv:2005.14165), appendix C."""
_SHARED = 10
"""Most items of a benchmark that may share an n-gram."""
_DIFFERENT = 6
"""Fewest different words of an n-gram, if it has so many."""
_ANCHOR = 5
"""Words of a whole question that are looked up before the rest is compared; all, if it has fewer."""


@dataclass(frozen=True, slots=True)
class Index:
    """What is searched for.

    ``words``: length of the n-grams. ``entries``: the hash of each n-gram, or key of a whole pair, with
    a number of an item and of a field, sorted. ``pairs``: whole questions and answers, with their
    hashes and numbers of words, the hash of the answer's first word, and the anchor: some of the
    question's words, and the place of their first. ``names``: benchmark and item, by the item's number.
    """

    words: int
    entries: npt.NDArray[Any]
    pairs: npt.NDArray[Any]
    names: Sequence[Sequence[str]]

    @classmethod
    def of(cls, benchmarks: Sequence[BenchmarkTexts], words: int) -> Index:
        """The index of benchmarks' items, by n-grams of so many words."""
        items = [item for benchmark in benchmarks for item in benchmark.items]
        names = [(b.name, item.id) for b in benchmarks for item in b.items]
        texts = [t or "" for i in items for t in (i.question, i.answer, i.passage)]
        of_item = np.repeat(np.arange(len(benchmarks)), [len(b.items) for b in benchmarks])
        found = Words.of(texts)
        entries = _unshared(_ngram_entries(found, words), of_item)
        telling = np.unique(entries["item"][entries["field"] != _PASSAGE])
        pairs = []
        for item in np.setdiff1d(np.arange(len(items)), telling).tolist():
            question, answer = (_words_of(found, 3 * item + field) for field in (0, 1))
            if _long_enough(len(question), len(answer)):
                pairs.append((item, question, answer))
        whole = _pairs([pair[1:] for pair in pairs])
        more = np.zeros(len(pairs), _ENTRY)
        more["key"], more["item"], more["field"] = whole["key"], [p[0] for p in pairs], _WHOLE
        return cls(words, np.sort(np.concatenate([entries, more])), np.unique(whole), names)

    @property
    def ngrams(self) -> Hashes:
        """The hashes of all n-grams, sorted."""
        return np.unique(self.entries["key"][self.entries["field"] != _WHOLE])

    def searched(self) -> Numbers:
        """The numbers of the items whose question or answer is searched for."""
        return np.unique(self.entries["item"][self.entries["field"] != _PASSAGE])

    def owners(self, keys: Sequence[int]) -> dict[int, list[Owner]]:
        """Benchmark, item and field of what has each of these keys."""
        wanted = self.entries[np.isin(self.entries["key"], np.array(keys, np.uint64))]
        found: dict[int, list[Owner]] = {key: [] for key in keys}
        for key, item, field in wanted.tolist():
            benchmark, name = self.names[item]
            found[key].append((benchmark, name, FIELDS[field]))
        return found

    def packed(self) -> str:
        """The index as text, the same for the same items."""
        arrays = {name: _as_text(getattr(self, name)) for name in ("entries", "pairs")}
        return json.dumps({"words": self.words, "names": self.names, **arrays})


@lru_cache(maxsize=1)
def unpacked(text: str) -> Index:
    """The index that was packed; the last one is kept, since it is the same for all parts."""
    told = json.loads(text)
    arrays = {name: _from_text(told[name]) for name in ("entries", "pairs")}
    return Index(**{**told, **arrays})


def _ngram_entries(words: Words, length: int) -> npt.NDArray[Any]:
    """An entry for each n-gram of each item's field, without those of few different words."""
    hashes = ngrams(words.hashes, length)
    first = np.arange(len(hashes))
    text = words.text_of(first)
    good = (text == words.text_of(first + length - 1)) & _varied(words.hashes, length)
    entries = np.zeros(int(good.sum()), _ENTRY)
    entries["key"] = hashes[good]
    entries["item"], entries["field"] = np.divmod(text[good], 3)
    return np.unique(entries)


def _varied(hashes: Hashes, length: int) -> npt.NDArray[np.bool_]:
    """Whether n-grams have enough different words."""
    count = max(0, len(hashes) - length + 1)
    found = np.zeros(count, bool)
    for start in range(0, count, 2**15):
        block = hashes[start : start + 2**15 + length - 1]
        windows = np.sort(np.lib.stride_tricks.sliding_window_view(block, length), axis=1)
        different = 1 + (windows[:, 1:] != windows[:, :-1]).sum(axis=1)
        found[start : start + len(windows)] = different >= min(_DIFFERENT, length)
    return found


def _unshared(entries: npt.NDArray[Any], benchmark: Numbers) -> npt.NDArray[Any]:
    """The entries of n-grams that few items of their benchmark have."""
    pairs = np.unique(entries[["key", "item"]])
    group = np.stack([pairs["key"], benchmark[pairs["item"]].astype(np.uint64)], axis=1)
    _, back, counts = np.unique(group, axis=0, return_inverse=True, return_counts=True)
    shared = pairs[counts[back.ravel()] > _SHARED]
    return entries[~np.isin(entries[["key", "item"]], shared)]


def _words_of(words: Words, text: int) -> Hashes:
    return words.hashes[words.first[text] : words.first[text + 1]]


def _long_enough(question: int, answer: int) -> bool:
    if not answer:
        return question >= _ALONE
    return question > 0 and question + answer >= _SHORTEST


def _pairs(texts: Sequence[tuple[Hashes, Hashes]]) -> npt.NDArray[Any]:
    """Whole questions with their answers."""
    anchors = [ngrams(question, min(_ANCHOR, len(question))) for question, _ in texts]
    frequency = Counter(one for some in anchors for one in some.tolist())
    found = np.zeros(len(texts), _PAIR)
    for row, (question, answer), some in zip(found, texts, anchors, strict=True):
        at = min(range(len(some)), key=lambda place: frequency[int(some[place])])
        row["question"] = ngrams(question, len(question))[0]
        row["question_words"] = len(question)
        row["anchor"], row["anchor_at"] = some[at], at
        row["anchor_words"] = min(_ANCHOR, len(question))
        if len(answer):
            row["answer"] = ngrams(answer, len(answer))[0]
            row["answer_words"], row["answer_starts"] = len(answer), answer[0]
    found["key"] = (found["question"] * _ODD) ^ found["answer"]
    return found


_ODD = np.uint64(0x9FB21C651E98DF25)


def _as_text(array: npt.NDArray[Any]) -> str:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return base64.b64encode(buffer.getvalue()).decode()


def _from_text(text: str) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False)
    return found
