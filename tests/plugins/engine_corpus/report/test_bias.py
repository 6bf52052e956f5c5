"""What rules drop of the documents that mention a group, compared with what they drop of all."""

from __future__ import annotations

import json

import pytest
from engine_corpus.report.bias import bias, dropped_shares, wilson


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
    names = ("rule", "group", "dropped", "documents")
    rows = [
        ("toxic", None, 100, 10_000), ("toxic", "women", 40, 1000), ("toxic", "men", 1, 100),
        ("short", None, 0, 10_000), ("short", "women", 0, 1000), ("short", "men", 0, 0),
    ]  # fmt: skip
    counts = [dict(zip(names, row, strict=True)) for row in rows]
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
        dropped_shares(counts[1:3])


def test_counts_come_from_the_flags_of_all_sources():
    """Of groups alone, and not of other annotations that are true or false."""

    def source(documents, flagged, dropped, of_them):
        rules = {"toxic": {"documents": dropped, "flagged": of_them}}
        flag = {"documents": documents, "flagged": flagged, "dropped": rules}
        return {"account": {"flags": {"mentions_a": flag, "mentions_b": flag, "other": flag}}}

    card = {"sources": [source(90, 10, 9, 5), source(10, 0, 1, 0), {"account": {}}]}
    (toxic,) = bias(card)
    assert (toxic["all"]["dropped"], toxic["all"]["documents"]) == (10, 100)
    assert set(toxic["groups"]) == {"a", "b"}
    assert (toxic["groups"]["b"]["dropped"], toxic["groups"]["b"]["documents"]) == (5, 10)
    assert toxic["groups"]["b"]["differs"]
    assert bias({"sources": [{"account": {}}]}) == []
