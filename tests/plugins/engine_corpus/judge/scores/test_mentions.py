"""Mentions of groups, and what rules drop of the documents that have them."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from engine_corpus.judge.scores.bias import counted, dropped_shares, wilson
from engine_corpus.judge.scores.config import Mentions
from engine_corpus.judge.scores.mentions import build
from pydantic import ValidationError

from engine import Text
from engine.testing import processed

GROUPS = {"women": ["woman", "women", "she"], "old_people": ["old people", "C++"], "j": ["jüdisch"]}


@pytest.mark.covers("processor/mentions.groups")
@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("Women, too.", {"women"}),
        ("SHE", {"women"}),
        ("ashes, she_1, womens, women2", set()),
        ("an old\n people's home", {"old_people"}),
        ("old, people", set()),
        ("written in c++.", {"old_people"}),
        ("written in C", set()),
        ("Jüdische", set()),
        ("JÜDISCH\u00a0und women", {"j", "women"}),
        ("", set()),
    ],
)
def test_groups_are_mentioned_by_whole_words_in_any_case(scored, text, groups):
    """As Unicode has letters and cases; phrases across line breaks."""
    (row,) = scored("mentions", [text], groups=GROUPS)
    assert row == {f"mentions_{name}": name in groups for name in GROUPS}


def test_columns_have_their_type_whatever_the_batch_has():
    """And documents stay as they are."""
    made = build(Mentions(groups=GROUPS), None)
    batch = pa.RecordBatch.from_pydict({"text": pa.array([], pa.large_string())})
    assert {column.type for column in made.columns(batch).values()} == {pa.bool_()}
    record = Text(id="1", source="s", text="she")
    assert processed(made, [record]) == [record]


@pytest.mark.parametrize("groups", [{}, {"a": []}, {"a": [" "]}, {"A b": ["x"]}])
def test_groups_without_words_or_with_other_names_are_refused(groups):
    """A name becomes a column's."""
    with pytest.raises(ValidationError):
        Mentions(groups=groups)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662)],
)
def test_intervals_are_wilson_s(successes, trials, low, high):
    """The last as in Newcombe 1998, Statistics in Medicine 17, table I."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) == (0, 1)


def test_shares_are_compared_by_rule_and_group():
    """From the counts alone, as plain data."""
    counts = pa.table(
        {
            "rule": ["toxic"] * 3 + ["short"] * 3,
            "group": [None, "women", "men"] * 2,
            "dropped": [100, 40, 1, 0, 0, 0],
            "documents": [10_000, 1000, 100, 10_000, 1000, 0],
        }
    )
    toxic, short = dropped_shares(counts)
    assert json.loads(json.dumps([toxic, short])) == [toxic, short]
    assert toxic["rule"] == "toxic"
    assert toxic["all"]["share"] == 0.01
    women, men = toxic["groups"]["women"], toxic["groups"]["men"]
    assert women["share"] == 0.04
    assert women["ratio"] == pytest.approx(4)
    assert (women["low"], women["high"]) == wilson(40, 1000)
    assert women["differs"]
    assert men["ratio"] == pytest.approx(1)
    assert not men["differs"]
    assert short["groups"]["women"]["ratio"] is None
    assert short["groups"]["men"]["share"] is None
    assert not short["groups"]["women"]["differs"]
    with pytest.raises(ValueError, match="'toxic' has no row"):
        dropped_shares(counts.slice(1, 2))


def test_counts_come_from_the_columns_of_all_parts():
    """Documents that were dropped before mentions were looked for count for nobody."""
    schema = pa.schema(
        [("drop", pa.string()), ("mentions_a", pa.bool_()), ("mentions_b", pa.bool_())]
    )
    rows = [
        ("toxic", True, False), (None, True, True), ("short", False, True), ("toxic", False, False),
        (None, False, False), ("early", None, None),
    ]  # fmt: skip
    whole = pa.Table.from_pylist([dict(zip(schema.names, r, strict=True)) for r in rows], schema)
    expected = [
        ("toxic", None, 2, 5), ("toxic", "a", 1, 2), ("toxic", "b", 0, 2),
        ("short", None, 1, 5), ("short", "a", 0, 2), ("short", "b", 1, 2),
    ]  # fmt: skip
    for tables in ([whole], [whole.slice(0, 3), whole.slice(3), whole.slice(0, 0)]):
        found = counted(tables, ["toxic", "short"])
        assert [tuple(row.values()) for row in found.to_pylist()] == expected
    assert counted([pa.table({"drop": ["x"]})], ["x"]).num_rows == 0
