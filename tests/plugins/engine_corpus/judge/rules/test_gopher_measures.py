"""What is measured for Gopher's rules."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from engine_corpus.judge.rules.config import Gopher
from engine_corpus.judge.rules.gopher import GopherRules, build
from engine_corpus.judge.rules.n_grams import WordSequence
from hypothesis import given, settings, strategies as st
from support.rule_limits import no_limits

from engine import Text
from engine.testing import processed

WORDS = st.lists(st.sampled_from(["a", "b", "ab", "aab", "ba", "é"]), max_size=60)


def _top(words: list[str], n: int) -> int:
    """The definition, step by step."""
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    if not grams:
        return 0
    gram, count = grams.most_common(1)[0]
    return len(gram) * count


def _duplicates(words: list[str], n: int) -> int:
    """The definition, step by step."""
    seen, found, position = set(), 0, 0
    while position <= len(words) - n:
        gram = "".join(words[position : position + n])
        if gram in seen:
            found, position = found + len(gram), position + n
        else:
            seen.add(gram)
            position += 1
    return found


@settings(max_examples=100, deadline=None)
@given(WORDS)
def test_n_grams_are_counted_as_defined(words):
    """Also where sequences of other words have the same characters."""
    sequence = WordSequence(words)
    assert sequence.top_n_grams(4) == [_top(words, n) for n in (2, 3, 4)]
    assert [sequence.duplicate_n_grams(n) for n in (4, 5, 10)] == [
        _duplicates(words, n) for n in (4, 5, 10)
    ]


def test_very_many_different_words_are_counted_exactly():
    """With 2^17 of them the number of a sequence of four exceeds 64 bits, and the two sequences at the
    end would seem to be the same."""
    words = [f"w{number}" for number in range(2**17)]
    words += ["w0", "w5", "w6", "w7", "w8192", "w5", "w6", "w7"]
    found = WordSequence(words).top_n_grams(4)
    assert found == [3 * len("w5 w6"), 3 * len("w5 w6 w7"), len("w0 w1 w2 w3")]


def _batch(texts: list[str]) -> pa.RecordBatch:
    return pa.record_batch({"text": pa.array(texts, pa.large_string())})


@settings(max_examples=12, deadline=None)
@given(st.lists(st.text("ab. \n#…", max_size=80), max_size=6), st.booleans())
def test_columns_do_not_depend_on_the_batch(texts, drop):
    """Neither values nor types, also of an empty batch."""
    rules = build(Gopher(drop=drop, min_words=3), None)
    together = pa.table(rules.columns(_batch(texts)))
    empty = pa.table(rules.columns(_batch([])))
    alone = [pa.table(rules.columns(_batch([text]))) for text in texts]
    assert pa.concat_tables([empty, *alone]).combine_chunks().equals(together.combine_chunks())


def test_words_are_counted_without_symbols():
    """One hundred thousand words pass, and one more does not."""
    text = "the of " + "fine " * 99_998 + "# ! "
    only = no_limits(GopherRules, Gopher) | {"max_words": 100_000}
    rules = GopherRules(Gopher(**only))
    found = rules.judge(text)
    assert (found.rule, found.measures["words"]) == (None, 100_000)
    assert rules.judge(text + "more").rule == "gopher-many-words"


def test_without_dropping_the_rule_is_only_named():
    """All documents stay, and the first rule that each breaks is an annotation."""
    texts = ["", "short", "the and of be to. " * 30]
    records = [Text(id=str(n), source="s", text=text) for n, text in enumerate(texts)]
    assert processed(build(Gopher(drop=False), None), records) == records
    columns = build(Gopher(drop=False), None).columns(_batch(texts))
    rules = ["gopher-few-words", "gopher-few-words", "gopher-short-words"]
    assert columns["gopher_rule"].to_pylist() == rules
    assert processed(build(Gopher(), None), records) == rules


def test_the_summary_names_the_split_and_counts_every_document():
    """Histograms leave out what is not defined."""
    rules = build(Gopher(words="whitespace"), None)
    table = pa.table(rules.columns(_batch(["", "a b c", "a " * 100])))
    summary = rules.summary(iter([table, table]))
    assert summary["words"] == "whitespace"
    assert summary["limits"]["max_top_2_gram"] == 0.2
    assert sum(summary["histograms"]["words"]["counts"]) == 6
    lengths = summary["histograms"]["mean_word_length"]
    assert sum(lengths["counts"]) == 4
    assert lengths["edges"][-1] > 1, "a mean is no share"
    for made in summary["histograms"].values():
        assert len(made["edges"]) == len(made["counts"]) + 1


@pytest.mark.parametrize(
    "text",
    ["a" * 300_000, "a " * 150_000, "\n" * 300_000, "\0" * 300_000],
)
def test_monotonous_text_takes_little_time(text):
    """It is dropped by a rule."""
    rule = GopherRules(Gopher()).judge(text).rule
    assert rule is not None
    assert rule.startswith("gopher-")
