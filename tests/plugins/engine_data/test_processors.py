"""What is kept of the records."""

from __future__ import annotations

import pytest
from engine_data.config import ExactDedup, Length
from engine_data.exact_dedup import build as build_exact_dedup
from engine_data.processors import build_length
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from engine import Text
from engine.testing import processed


def _text(text: str) -> Text:
    return Text(id=text, source="test", license="MIT", text=text, meta={"a": 1})


def _kept(processor, *texts: str) -> list[str]:
    """What passes; all that passes is unchanged."""
    records = [_text(text) for text in texts]
    outcomes = processed(processor, records)
    assert processed(processor, records, parts=3) == outcomes
    kept = [(a, b) for a, b in zip(records, outcomes, strict=True) if not isinstance(b, str)]
    assert all(before == after for before, after in kept)
    return [after.text for _, after in kept]


def _dedup(*ignore: str):
    return build_exact_dedup(ExactDedup(ignore=ignore), None)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "A", " a", "ab", "é", "e\u0301"])))
def test_of_equal_texts_the_first_stays(texts):
    """In their order, compared character by character."""
    assert _kept(_dedup(), *texts) == list(dict.fromkeys(texts))


@pytest.mark.covers("processor/exact-dedup.ignore")
def test_some_differences_do_not_count():
    """Case (as Unicode folds it) and whitespace, each on request."""
    texts = "Straße", "STRASSE", " straße\n", "a  b", "a\tb"
    assert _kept(_dedup(), *texts) == list(texts)
    assert _kept(_dedup("case"), *texts) == ["Straße", " straße\n", "a  b", "a\tb"]
    assert _kept(_dedup("whitespace"), *texts) == ["Straße", "STRASSE", " straße\n", "a  b"]
    assert _kept(_dedup("case", "whitespace"), *texts) == ["Straße", "a  b"]


def test_a_duplicate_is_dropped_by_its_rule():
    """The name is the card's."""
    assert processed(_dedup(), [_text("a"), _text("a")]) == [_text("a"), "duplicate"]


def test_texts_alone_are_compared():
    """Neither identity nor source nor licence."""
    first = Text(id="1", source="a", text="p")
    again = Text(id="2", source="b", license="MIT", text="p")
    assert processed(_dedup(), [first, again, _text("q")]) == [first, "duplicate", _text("q")]


@pytest.mark.covers("processor/length.min", "processor/length.max")
def test_texts_outside_the_limits_are_dropped_by_rules_of_their_own():
    """Lengths are in characters, and the limits themselves are inside."""
    length = build_length(Length(min=2, max=3), None)
    results = processed(length, [_text(text) for text in ("é", "éé", "ééé", "éééé")])
    assert results == ["too-short", _text("éé"), _text("ééé"), "too-long"]
    assert _kept(build_length(Length(), None), "", "a", "a" * 10_000) == ["a", "a" * 10_000]
    assert _kept(build_length(Length(min=0, max=1), None), "", "a", "ab") == ["", "a"]


def test_limits_that_let_nothing_pass_are_an_error():
    """Told before anything is read."""
    with pytest.raises(ValidationError, match="max 2 is less than min 3"):
        Length(min=3, max=2)
