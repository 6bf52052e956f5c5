"""Training examples by global index."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from engine.contracts.amounts import Amount
from engine.contracts.batch import Example
from engine.data.examples import TrainingData
from engine.data.mixture import Mixture, MixtureSource
from engine.data.shards import Shards, ShardWriter
from engine.data.windows import Windows
from engine.errors import RunError

_RANGES = st.lists(
    st.tuples(st.integers(0, 150), st.integers(0, 40)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=5,
)


def _data(**options) -> TrainingData:
    """Two sources whose examples say what they are."""
    sources = [[Example(1, {"id": f"{name}{i}"}) for i in range(30)] for name in "ab"]
    parts = [MixtureSource("a", 30, 0.7, **options), MixtureSource("b", 30, 0.3, **options)]
    return TrainingData(Mixture(parts, 5), sources)


def _ids(examples) -> list[str]:
    return [example.fields["id"] for example in examples]


def test_a_step_that_no_memory_holds_is_refused():
    """At once, with the fields that make it so large."""
    with pytest.raises(RunError, match=r"3,124,999,999,999,999 rows .*lower `batch\.tokens`"):
        _data().take(0, 99999999999999999 // 32, (), 0, 1)


@given(_RANGES, st.integers(0, 100), st.integers(0, 60), st.integers(1, 5))
@settings(max_examples=80, deadline=None)
def test_ranks_take_one_order_between_them(excluded, cursor, count, ranks):
    """Rank r of n has every n-th example of the order without the excluded ranges."""
    data = _data()
    wanted, index = [], cursor
    while len(wanted) < count:
        if not any(start <= index < end for start, end in excluded):
            sample = data.mixture[index]
            wanted.append(f"{'ab'[sample.source]}{sample.index}")
        index += 1
    for rank in range(ranks):
        examples, after = data.take(cursor, count, excluded, rank, ranks)
        assert _ids(examples) == wanted[rank::ranks]
        assert _ids(data.take(after, 1, excluded, 0, 1)[0]) == _ids(
            data.take(cursor, count + 1, excluded, 0, 1)[0][-1:]
        )


@given(_RANGES, st.integers(0, 80), st.integers(1, 80))
@settings(max_examples=80, deadline=None)
def test_the_data_ends_where_it_says(excluded, cursor, count):
    """Exactly what is left can be taken; more is an error, not a shorter batch."""
    data = _data(max_epochs=1)
    left = sum(
        not any(start <= index < end for start, end in excluded) for index in range(cursor, 60)
    )
    assert data.left(cursor, excluded) == left
    if count <= left:
        assert len(data.take(cursor, count, excluded, 0, 1)[0]) == count
    else:
        with pytest.raises(RunError, match="the data ends after 60 rows"):
            data.take(cursor, count, excluded, 0, 1)


@given(_RANGES, st.integers(0, 100), st.integers(1, 60))
@settings(max_examples=80, deadline=None)
def test_a_cursor_stands_behind_what_is_excluded(excluded, cursor, count):
    """So that all before it is either used or left out, and is counted so."""
    data = _data()
    _, after = data.take(cursor, count, excluded, 0, 1)
    assert not any(start <= after < end for start, end in excluded)
    before = data.left_out(data.after(cursor, excluded), excluded)
    assert after - data.after(cursor, excluded) == count + data.left_out(after, excluded) - before


def test_a_budget_in_epochs_ends_at_an_index():
    """Whatever the data could give beyond it; where it cannot give that much, both are told."""
    assert _data(max_epochs=2).end(Amount(2, "epochs")) == 120
    assert _data().end(Amount(0.5, "epochs")) == 30
    assert _data(max_epochs=1).end(Amount(9, "steps")) == 60
    told = "a budget of 3 epochs is 180 rows, but the data ends after 120: .*; raise max_epochs"
    with pytest.raises(RunError, match=told):
        _data(max_epochs=2).end(Amount(3, "epochs"))


def test_an_epoch_counts_sources_with_a_weight():
    """One that is never read would make epochs too long."""
    parts = [MixtureSource("a", 30), MixtureSource("b", 30, 0.0)]
    assert TrainingData(Mixture(parts, 0), [[], []]).epoch_size == 30


def test_windows_become_examples_of_a_whole_row(tmp_path):
    """Their fields are those that the next-token objective collates."""
    writer = ShardWriter(tmp_path / "s", vocab_size=50, eos_id=0, boundary_target=True)
    writer.add([0, *range(1, 21)], 20)
    writer.close()
    examples = Windows(Shards.open(tmp_path / "s"), 8)
    assert len(examples) == 2
    assert examples[1].length == 8
    assert {name: value.tolist() for name, value in examples[1].fields.items()} == {
        "input_ids": [*range(8, 16)],
        "labels": [*range(9, 17)],
        "position_ids": [*range(8)],
    }
