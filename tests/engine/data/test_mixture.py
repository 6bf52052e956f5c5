"""The order of samples."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, example, given, settings, strategies as st

from engine.data.mixture import Mixture, MixtureSource
from engine.errors import RunError

_WEIGHTS = st.sampled_from([0.0, 0.1, 0.2, 0.7, 1.0, 3.0, 1e-3]) | st.floats(0.01, 100.0)
_LIMITS = st.sampled_from([1.0, 2.0, 0.3, 1.5]) | st.floats(0.5, 3.0)
_OPTIONAL = st.none() | _LIMITS
_SEEDS = st.integers(0, 2**63 - 1)
_SOME = 1500


@st.composite
def _sources(draw: st.DrawFn, limits: st.SearchStrategy[float | None] = _OPTIONAL):
    """One to four sources, at least one of them with a weight, all able to give a sample."""
    sources = [
        MixtureSource(f"s{i}", draw(st.integers(4, 150)), draw(_WEIGHTS), draw(limits))
        for i in range(draw(st.integers(1, 4)))
    ]
    assume(any(s.weight for s in sources))
    return sources


def _edges(mixture: Mixture):
    """(segment, blocks of it, global index) of the first block edges."""
    ends = [segment.start for segment in mixture._segments[1:]] + [len(mixture)]
    for segment, end in zip(mixture._segments, ends, strict=True):
        for blocks in range(1, (min(end, _SOME) - segment.start) // segment.block + 1):
            yield segment, blocks, segment.start + blocks * segment.block


def _check_epochs(mixture: Mixture, sources) -> None:
    """What a source gives, in the order in which it comes, is pass after pass: each index once before
    any comes again, wherever one stops."""
    samples = mixture.batch(0, min(len(mixture), _SOME))
    for number, source in enumerate(sources):
        own = [s for s in samples if s.source == number]
        assert [s.epoch for s in own] == [n // source.size for n in range(len(own))]
        for start in range(0, len(own), source.size):
            indices = {s.index for s in own[start : start + source.size]}
            assert len(indices) == len(own[start : start + source.size])
            assert indices <= set(range(source.size))


@given(_sources(), _SEEDS, st.data())
@settings(max_examples=40, deadline=None)
def test_any_batch_is_its_samples_looked_up_one_by_one(sources, seed, data):
    """What a sample is does not depend on how much is asked for at once, or by which object."""
    mixture, again = Mixture(sources, seed), Mixture(sources, seed)
    end = min(len(mixture), 10**6)
    start = data.draw(st.integers(0, end))
    count = data.draw(st.integers(0, min(100, end - start)))
    assert mixture.batch(start, count) == [again[i] for i in range(start, start + count)]


@given(_sources(), _SEEDS)
@settings(max_examples=40, deadline=None)
def test_each_epoch_of_a_source_visits_every_index_once(sources, seed):
    """No sample comes twice in an epoch, and none is left out before the next one begins."""
    _check_epochs(Mixture(sources, seed), sources)


@given(st.integers(1, 400), st.integers(0, 5), _SEEDS, _OPTIONAL)
@settings(max_examples=40, deadline=None)
def test_a_source_alone_is_read_pass_by_pass(size, epoch, seed, limit):
    """Any whole pass of it is a permutation of all its rows, between two exact indices."""
    mixture = Mixture([MixtureSource("a", size, 1.0, limit and epoch + 1 + limit)], seed)
    samples = mixture.batch(epoch * size, size)
    assert sorted(s.index for s in samples) == list(range(size))
    assert {s.epoch for s in samples} == {epoch}
    assert mixture.samples(epoch + 1) == (epoch + 1) * size


def test_a_pass_over_several_sources_counts_what_each_would_give():
    """A part of a pass is the whole samples of each, as `max_epochs` of them counts."""
    sources = [MixtureSource("a", 5, 1.0, 1.5), MixtureSource("b", 5, 1.0, 1.5)]
    assert Mixture(sources, 0).samples(1.5) == len(Mixture(sources, 0)) == 14
    assert Mixture(sources, 0).samples(0.01) == 1


@given(_sources(), _SEEDS)
@settings(max_examples=40, deadline=None)
@example([MixtureSource(f"s{i}", 100, 1.0) for i in range(3)], 0)
def test_shares_are_held_to_within_one_sample_at_block_edges(sources, seed):
    """In each segment every source has been drawn share · n times, to less than one."""
    mixture = Mixture(sources, seed)
    drawn: Counter[int] = Counter()
    current = None
    for segment, blocks, end in _edges(mixture):
        if segment is not current:
            current, drawn = segment, Counter()
            weights = {m: Fraction(str(sources[m].weight)) for m in segment.members}
        drawn.update(s.source for s in mixture.batch(end - segment.block, segment.block))
        for member, weight in weights.items():
            wanted = weight / sum(weights.values()) * blocks * segment.block
            assert abs(drawn[member] - wanted) < 1


@given(_sources(limits=_LIMITS), _SEEDS)
@settings(max_examples=40, deadline=None)
@example([MixtureSource("one", 40, 1.0, 1.0)], 0)
@example([MixtureSource("large", 4, 0.9, 1.0), MixtureSource("small", 150, 1e-3, 3.0)], 0)
def test_max_epochs_is_honoured_to_the_sample(sources, seed):
    """Each source gives exactly size · max_epochs samples, and then the mixture ends."""
    mixture = Mixture(sources, seed)
    drawn = Counter(s.source for s in mixture.batch(0, len(mixture)))
    for number, source in enumerate(sources):
        limit = int(source.size * Fraction(str(source.max_epochs)))
        assert drawn[number] == (limit if source.weight else 0)
    with pytest.raises(IndexError):
        mixture.batch(len(mixture), 1)


@given(_sources(), st.data(), _SEEDS)
@settings(max_examples=40, deadline=None)
def test_weights_change_on_the_way_without_loss_or_repeats(sources, data, seed):
    """What came before a change stays; after it each source goes on where it was, as then asked."""
    mixture, asked = Mixture(sources, seed), sources
    for at in sorted(data.draw(st.lists(st.integers(0, 400), min_size=1, max_size=3))):
        asked = [
            MixtureSource(s.name, s.size, data.draw(_WEIGHTS), data.draw(_OPTIONAL))
            for s in sources
        ]
        assume(at <= len(mixture) and any(s.weight for s in asked))
        recorded = json.loads(json.dumps(mixture.state()))
        changed = Mixture(asked, seed).resumed(recorded, at)
        assert changed.batch(0, at) == mixture.batch(0, at)
        mixture = changed
    _check_epochs(mixture, asked)
    later = [shares for start, shares in mixture.segments if start >= at]
    weights = {s.name: s.weight for s in asked}
    for shares in later:
        total = sum(weights[name] for name in shares)
        assert shares == pytest.approx({name: weights[name] / total for name in shares})


def test_a_change_takes_effect_at_the_next_block_edge_and_is_recorded():
    """The state that goes into checkpoints brings back the same order, change and all."""
    even = [MixtureSource("a", 500, 0.5), MixtureSource("b", 500, 0.5)]
    uneven = [MixtureSource("a", 500, 0.9), MixtureSource("b", 500, 0.1)]
    changed = Mixture(uneven, 7).resumed(Mixture(even, 7).state(), 100)
    assert changed.segments == [(0, {"a": 0.5, "b": 0.5}), (128, {"a": 0.9, "b": 0.1})]
    again = Mixture(uneven, 7).resumed(json.loads(json.dumps(changed.state())), 300)
    assert again.segments == changed.segments
    assert again.batch(0, 1000) == changed.batch(0, 1000)


def test_a_used_up_source_comes_back_when_max_epochs_is_raised():
    """It goes on with the epoch after its last."""
    mixture = Mixture([MixtureSource("a", 10, 1, 1), MixtureSource("b", 10, 1)], 0)
    more = [MixtureSource("a", 10, 1, 3), MixtureSource("b", 10, 1)]
    went_on = Mixture(more, 0).resumed(mixture.state(), 100).batch(0, 400)
    assert Counter(s.epoch for s in went_on if s.source == 0) == {0: 10, 1: 10, 2: 10}
    assert {s.epoch for s in went_on[:100] if s.source == 0} == {0}


def test_an_older_order_is_refused():
    """Where a pass ended before its last samples had come, an index meant something else."""
    mixture = Mixture([MixtureSource("a", 100)], 0)
    older = {name: value for name, value in mixture.state().items() if name != "order"}
    with pytest.raises(RunError, match="another order of samples; resume with that version"):
        mixture.resumed(older, 50)


def test_other_data_under_a_checkpoint_is_refused():
    """An index means nothing in a source of another size."""
    state = Mixture([MixtureSource("a", 100)], 0).state()
    with pytest.raises(RunError, match=r"\{'a': 100\} samples, now \{'a': 99\}"):
        Mixture([MixtureSource("a", 99)], 0).resumed(state, 50)


def test_seeks_to_any_of_a_million_million_samples_with_a_small_state():
    """Nothing is stored or replayed: far samples are whole, distinct, and in the right shares."""
    sources = [MixtureSource(f"source-{i}", 10**11 + i, 0.1 + i / 100) for i in range(10)]
    mixture = Mixture(sources, 17)
    samples = [mixture[10**12 + i] for i in range(64)]
    assert len(set(samples)) == 64
    for sample in samples:
        source = sources[sample.source]
        drawn = 10**12 * source.weight / sum(s.weight for s in sources)
        assert sample.epoch == drawn // source.size
    assert len(json.dumps(mixture.state())) < 2048
    far = Mixture([MixtureSource("one", 6400)], 0).batch(10**12, 6400)
    assert {s.epoch for s in far} == {10**12 // 6400}
    assert sorted(s.index for s in far) == list(range(6400))


def test_the_order_is_part_of_what_a_checkpoint_means():
    """These values were recorded: an engine that gives others cannot continue its users' runs."""
    mixture = Mixture([MixtureSource("a", 1000, 0.75), MixtureSource("b", 30, 0.25, 2)], 17)
    found = [(s.source, s.index, s.epoch) for i in (0, 1, 2, 150, 10**9) for s in [mixture[i]]]
    assert found == [(1, 5, 0), (0, 524, 0), (0, 156, 0), (0, 751, 0), (0, 884, 999999)]


def test_seeds_and_epochs_have_orders_of_their_own():
    """A hundred samples in the same order twice would be no accident."""
    sources = [MixtureSource("a", 100)]
    one, other = (Mixture(sources, seed).batch(0, 200) for seed in (1, 2))
    assert [s.index for s in one[:100]] != [s.index for s in other[:100]]
    assert [s.index for s in one[:100]] != [s.index for s in one[100:]]


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ([MixtureSource("tiny", 0)], "source 'tiny' has less than one row of tokens"),
        ([MixtureSource("a", 9), MixtureSource("b", 9, 1e-7)], "source 'b': with a share of 1e-07"),
        ([MixtureSource("a", 9, 1, 0.1)], "source 'a': max_epochs 0.1 of 9 samples"),
    ],
)
def test_a_source_that_would_never_be_drawn_is_an_error(sources, told):
    """A weight without effect is told at once, with the source's name."""
    with pytest.raises(RunError, match=told):
        Mixture(sources, 0)


def test_a_source_without_weight_may_be_empty():
    """It is kept for the day that it gets one."""
    mixture = Mixture([MixtureSource("a", 9), MixtureSource("b", 0, 0.0)], 0)
    assert {s.source for s in mixture.batch(0, 100)} == {0}
    assert mixture.epoch_size == 9
