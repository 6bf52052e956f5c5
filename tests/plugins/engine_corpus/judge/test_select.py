"""Documents are selected by bounds and shares of their annotations."""

from __future__ import annotations

import pytest
from engine_corpus.judge.config import Select
from engine_corpus.judge.select import SelectStep
from pydantic import ValidationError

from engine import RunError, Text, each
from engine.testing import processed

_NUMBERS = [5, 1, 4, 2, 3, 9, 8, 9, 9, 7]


def _rules(keep, parts=1, numbers=_NUMBERS):
    """What becomes of documents of two sources in turn, each annotated with its number."""
    texts = [
        Text(id=str(place), source="ab"[place % 2], text=str(number))
        for place, number in enumerate(numbers)
    ]
    noted = each(lambda document: {} if document.text == "0" else {"n": int(document.text)})
    found = processed([noted, SelectStep(Select(keep=keep))], texts, parts=parts)
    return [one if isinstance(one, str) else None for one in found]


def _kept(rules, numbers=_NUMBERS):
    return [number for number, rule in zip(numbers, rules, strict=True) if rule is None]


@pytest.mark.parametrize(
    ("criterion", "kept"),
    [
        (">= 8", [9, 8, 9, 9]),
        ("> 8", [9, 9, 9]),
        ("<= 2", [1, 2]),
        ("< 2", [1]),
        ("> -1e-3", _NUMBERS),
        ("best 40% of each source", [9, 8, 9, 9]),  # of 9 8 5 4 3 and of 9 9 7 2 1
        ("highest 20% of each source", [9, 9, 9]),
        ("lowest 40% of each source", [1, 4, 2, 3]),
        ("best 100% of each source", _NUMBERS),
    ],
)
@pytest.mark.covers("processor/select.keep")
def test_bounds_and_shares_keep_what_they_say(criterion, kept):
    """A share is of each source; documents with the threshold's own value stay."""
    assert _kept(_rules({"n": criterion})) == kept
    assert _rules({"n": criterion}, parts=3) == _rules({"n": criterion})


def test_the_first_annotation_that_decides_names_the_rule():
    """In the spec's order."""
    rules = _rules({"n": "> 2"})
    assert set(rules) == {None, "select-n"}


def test_a_document_without_a_value_falls():
    """As nothing says that it is good enough."""
    assert _rules({"n": ">= 1"}, numbers=[1, 0, 2, 5]) == [None, "select-n", None, None]


def test_an_annotation_that_nothing_gives_is_named():
    """With where it should come from."""
    with pytest.raises(RunError, match="no document of source 'a' has a number 'quality'"):
        _rules({"quality": "> 2"})


@pytest.mark.parametrize("name", ["word", "text"])
def test_what_is_no_number_is_named(name):
    """Without what stands in the documents; any name of an annotation may be compared."""
    noted = each(lambda document: {"word": document.text, "key": 1})
    keep = Select(keep={"key": ">= 1", name: ">= 1"})
    document = Text(id="1", source="a", text="secret")
    with pytest.raises(RunError, match=f"^select: '{name}' is not a number;") as told:
        processed([noted, SelectStep(keep)], [document])
    assert "secret" not in str(told.value)
    assert processed([noted, SelectStep(Select(keep={"key": ">= 1"}))], [document]) == [document]


@pytest.mark.parametrize(
    "text", ["80%", "best 0% of each source", "best 101% of each source", "= 3"]
)
def test_a_criterion_that_cannot_be_read_is_refused(text):
    """With an example of each kind."""
    with pytest.raises(ValidationError, match=r"neither a bound such as '>= 0.5' nor a share"):
        Select(keep={"n": text})
