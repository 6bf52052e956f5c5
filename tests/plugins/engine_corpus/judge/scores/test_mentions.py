"""Mentions of groups."""

from __future__ import annotations

import pyarrow as pa
import pytest
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
