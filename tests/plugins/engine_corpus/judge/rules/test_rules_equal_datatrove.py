"""The rules decide as those of datatrove 0.10 do, for the same reasons, where words are the same.

``record_datatrove.py`` made the recording.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from engine_corpus.judge.rules.c4 import C4Rules
from engine_corpus.judge.rules.config import C4, FineWeb, Gopher
from engine_corpus.judge.rules.fineweb import FineWebRules
from engine_corpus.judge.rules.gopher import GopherRules
from engine_corpus.judge.rules.rule_set import Measure
from engine_corpus.judge.rules.words import Split
from support.rule_limits import no_limits

RULES = {
    "gopher_short_doc": "gopher-few-words",
    "gopher_long_doc": "gopher-many-words",
    "gopher_below_avg_threshold": "gopher-short-words",
    "gopher_above_avg_threshold": "gopher-long-words",
    "gopher_too_many_hashes": "gopher-hashes",
    "gopher_too_many_ellipsis": "gopher-ellipses",
    "gopher_too_many_bullets": "gopher-bullet-lines",
    "gopher_too_many_end_ellipsis": "gopher-ellipsis-lines",
    "gopher_below_alpha_threshold": "gopher-few-alphabetic-words",
    "gopher_enough_stop_words": "gopher-few-stop-words",
    "dup_para_frac": "gopher-duplicate-paragraphs",
    "dup_para_char_frac": "gopher-duplicate-paragraph-characters",
    "dup_line_frac": "gopher-duplicate-lines",
    "dup_line_char_frac": "gopher-duplicate-line-characters",
    **{f"top_{n}_gram": f"gopher-top-{n}-gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"gopher-duplicate-{n}-grams" for n in range(5, 11)},
    "line_punct_ratio": "fineweb-few-punctuated-lines",
    "short_line_ratio": "fineweb-short-lines",
    "char_dup_ratio": "fineweb-duplicate-line-characters",
    "list_ratio": "fineweb-newlines",
    "lorem_ipsum": "c4-lorem-ipsum",
    "curly_bracket": "c4-curly-bracket",
    "too_few_sentences": "c4-few-sentences",
}
QUALITY = {
    "min_doc_words": {"min_words": 50},
    "max_doc_words": {"max_words": 300},
    "min_avg_word_length": {"min_mean_word_length": 4},
    "max_avg_word_length": {"max_mean_word_length": 6},
    "max_symbol_word_ratio": {"max_hashes": 0.02, "max_ellipses": 0.02},
    "max_bullet_lines_ratio": {"max_bullet_lines": 0.1},
    "max_ellipsis_lines_ratio": {"max_ellipsis_lines": 0.1},
    "max_non_alpha_words_ratio": {"min_alphabetic_words": 0.75},
    "min_stop_words": {"min_stop_words": 5},
}
REPETITION = {
    "dup_line_frac": {"max_duplicate_lines": 0.1},
    "dup_para_frac": {"max_duplicate_paragraphs": 0.1},
    "dup_line_char_frac": {"max_duplicate_line_characters": 0.05},
    "dup_para_char_frac": {"max_duplicate_paragraph_characters": 0.05},
    **{f"top_n_grams {n}": {f"max_top_{n}_gram": 0.06} for n in (2, 3, 4)},
    **{f"dup_n_grams {n}": {f"max_duplicate_{n}_grams": 0.05} for n in range(5, 11)},
}
FINEWEB_OFF = no_limits(FineWebRules, FineWeb)
FINEWEB = {
    "line_punct_exclude_zero": {"keep_unpunctuated": True},
    "short_line_length": {"short_line": 60},
    "line_punct_thr": {**FINEWEB_OFF, "min_punctuated_lines": 0.12},
    "short_line_thr": {**FINEWEB_OFF, "max_short_lines": 0.67},
    "char_duplicates_ratio": {**FINEWEB_OFF, "max_duplicate_line_characters": 0.01},
    "new_line_ratio": {**FINEWEB_OFF, "max_newlines": 0.3},
}
C4_FLAGS = {
    "remove_citations": "remove_citations",
    "filter_no_terminal_punct": "require_terminal_punctuation",
    "filter_lorem_ipsum": "drop_lorem_ipsum",
    "filter_javascript": "remove_javascript",
    "filter_curly_bracket": "drop_curly_brackets",
    "filter_policy": "remove_policies",
}
CONFIGURATIONS = {
    "quality": {},
    "repetition": {},
    "fineweb": {},
    **{f"quality {name}": fields for name, fields in QUALITY.items()},
    **{f"repetition {name}": fields for name, fields in REPETITION.items()},
    **{f"fineweb {name}": fields for name, fields in FINEWEB.items()},
    "c4": {},
    "c4 split_paragraph": {"split": "sentences"},
    "c4 all": {"min_sentences": 0},
    "c4 max_word_length": {"max_word_length": 12, "min_sentences": 0},
    "c4 min_words_per_line": {"min_words_per_line": 8, "min_sentences": 0},
    **{f"c4 {flag}": {field: False, "min_sentences": 0} for flag, field in C4_FLAGS.items()},
    "c4 flags": {**dict.fromkeys(C4_FLAGS.values(), False), "min_sentences": 12},
}


@pytest.fixture(scope="module")
def recording() -> Any:
    with lzma.open(Path(__file__).with_name("datatrove_decisions.json.xz"), "rt") as file:
        return json.load(file)


@pytest.fixture(scope="module")
def splits(recording) -> dict[str, Split]:
    """``spacy``: the words that datatrove had, but for lines whose sentences it did not count."""
    lengths = {row["text"]: row["words"] for row in recording["documents"]} | recording["lines"]

    def spacy(text: str) -> list[str]:
        return list(_cut("".join(text.split()), lengths[text])) if text in lengths else []

    return {"spacy": spacy, "whitespace": str.split}


@pytest.fixture(scope="module")
def gopher_measures(recording, splits) -> dict[str, list[Mapping[str, Measure]]]:
    """Of each document, with either words."""
    texts = [row["text"] for row in recording["documents"]]
    return {
        words: [GopherRules(Gopher(), split).measured(text) for text in texts]
        for words, split in splits.items()
    }


def _cut(text: str, lengths: list[int]) -> Iterator[str]:
    begin = 0
    for length in lengths:
        yield text[begin : begin + length]
        begin += length


def _gopher(filter_: str, fields: dict[str, Any]) -> Gopher:
    """One of datatrove's two filters, or a single threshold of it."""
    off = no_limits(GopherRules, Gopher)
    names = list(off)
    first = names.index("max_duplicate_paragraphs")
    others = names[first:] if filter_ == "quality" else names[:first]
    return Gopher(**{**{name: off[name] for name in (names if fields else others)}, **fields})


GOPHER = [name for name in CONFIGURATIONS if name.startswith(("quality", "repetition"))]
FINEWEBS = [name for name in CONFIGURATIONS if name.startswith("fineweb")]
C4S = [name for name in CONFIGURATIONS if name.startswith("c4")]


@pytest.mark.parametrize("words", ["spacy", "whitespace"])
@pytest.mark.parametrize("name", GOPHER)
def test_gopher_reasons_are_the_same(recording, gopher_measures, words, name):
    """With spaCy's words and with those between white space, by default and for each threshold alone;
    where there is no word, datatrove fails."""
    filter_ = name.partition(" ")[0]
    rules = GopherRules(_gopher(filter_, CONFIGURATIONS[name]))
    expected = RULES | {None: None, "empty": "gopher-empty"}
    found = set()
    for row, measures in zip(recording["documents"], gopher_measures[words], strict=True):
        reason = row[words][name]
        rule = rules.rule(row["text"], measures)
        if filter_ == "quality" and rule == "gopher-empty":  # a rule of the other filter
            rule = None
        if reason != "error":
            assert rule == expected[reason], row["text"][:1000]
            found.add(reason)
    assert len(found) > 1


@pytest.mark.parametrize("words", ["spacy", "whitespace"])
@pytest.mark.parametrize("name", FINEWEBS)
def test_fineweb_reasons_are_the_same(recording, splits, words, name):
    """With either words, by default and for each threshold alone."""
    rules = FineWebRules(FineWeb(**CONFIGURATIONS[name]), splits[words])
    expected = RULES | {None: None, "empty": "fineweb-empty"}
    for row in recording["documents"]:
        assert rules.judge(row["text"]).rule == expected[row[words][name]], row["text"][:1000]


@pytest.mark.parametrize("name", C4S)
def test_the_text_that_c4_leaves_is_the_same(recording, splits, name):
    """Lines or sentences are removed alike, and documents dropped for the same reasons."""
    rules = C4Rules(C4(**CONFIGURATIONS[name]), splits["spacy"])
    for row in recording["documents"]:
        reason, text = row["spacy"][name]
        found = rules.judge(row["text"])
        assert found.rule == (RULES[reason] if reason else None), row["text"][:1000]
        assert found.text == text


def test_every_reason_is_recorded(recording):
    """Each of datatrove's reasons but the empty text drops some document, and has a rule of ours."""
    reasons = set()
    for row in recording["documents"]:
        for decision in [*row["spacy"].values(), *row["whitespace"].values()]:
            reasons.add(decision[0] if isinstance(decision, list) else decision)
    assert reasons - {None, "error", "empty"} == RULES.keys()
    assert sum(row["real"] for row in recording["documents"]) >= 200
