"""Every row is read once, in trees that fit, beside those that begin alike."""

from __future__ import annotations

from engine_inference.prefix_trees import TREE, Row, common, each_alone, plan
from hypothesis import given, strategies as st

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=700)
BEGINNINGS = st.lists(st.lists(st.integers(0, 3), max_size=600), min_size=1, max_size=4)


@given(BEGINNINGS, st.lists(st.tuples(st.integers(0, 3), TOKENS), max_size=30))
def test_a_plan_has_every_row_once(beginnings, ends):
    """With its run's prefix at its beginning, and nothing asked inside that."""
    rows = []
    for number, end in ends:
        tokens = beginnings[number % len(beginnings)] + end
        rows.append(Row(tokens, max(0, len(tokens) - len(end))))
    runs = plan(rows)
    assert sorted(i for run in runs for tree in run.trees for i in tree.rows) == list(
        range(len(rows))
    )
    for run in runs:
        members = [rows[i] for tree in run.trees for i in tree.rows]
        if members:
            prefix = members[0].tokens[: run.prefix]
            assert all(row.tokens[: run.prefix] == prefix for row in members)
            assert all(row.first >= run.prefix for row in members)
        for tree in run.trees:
            assert tree.size <= TREE or len(tree.rows) == 1


def test_a_question_with_its_endings_is_one_tree():
    """Its tokens are counted once."""
    question = list(range(100))
    rows = [Row([*question, 200 + i, 300], 99) for i in range(4)]
    (run,) = plan(rows)
    assert run.prefix == 0
    assert [(set(tree.rows), tree.size) for tree in run.trees] == [({0, 1, 2, 3}, 100 + 4 * 2)]


def test_worked_examples_before_many_questions_are_a_prefix():
    """Of each subject its own; of questions beyond it, one more token is read per choice at most."""
    rows = []
    for subject in (1, 2):
        for question in range(20):
            before = [subject] * 400 + [10 + question] * 50
            rows += [Row(before, len(before) - 1) for _ in "ABCD"]
    alone, *runs = plan(rows)
    assert alone.trees == []
    assert [run.prefix for run in runs] == [400, 400]
    assert sum(tree.size for run in runs for tree in run.trees) == 2 * 20 * 50


def test_what_begins_otherwise_stays_apart():
    """As it is without sharing."""
    rows = [Row([i] * 20, 10) for i in range(5)]
    apart = {tree.rows for run in plan(rows) for tree in run.trees}
    assert apart == {tree.rows for run in each_alone(rows) for tree in run.trees}


@given(TOKENS, TOKENS)
def test_common_is_the_longest_common_beginning(a, b):
    """As counted one by one."""
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    assert common(a, b) == (min(len(a), len(b)) if expected is None else expected)
