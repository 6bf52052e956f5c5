"""Keyed permutations."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from engine.data.permutation import key_of, permute


@given(st.integers(1, 3000), st.integers(0, 2**128 - 1))
@settings(max_examples=60, deadline=None)
def test_every_member_has_one_place(size, key):
    """It is a permutation, for any size and key."""
    assert sorted(permute(np.arange(size), size, key)) == list(range(size))


@given(st.integers(2, 2**61), st.integers(0, 2**128 - 1), st.data())
@settings(max_examples=60, deadline=None)
def test_one_member_is_placed_as_among_many(size, key, data):
    """Members are found one by one, however many there are; none shares another's place."""
    members = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True))
    places = permute(np.array(members), size, key)
    assert [int(permute(np.array([m]), size, key)[0]) for m in members] == places.tolist()
    assert len(set(places.tolist())) == len(members)
    assert all(0 <= place < size for place in places.tolist())


def test_places_are_even_over_keys():
    """Over 4,000 keys each of 10 members stands equally often in each of 10 places.

    The statistic is chi-square with 9 degrees of freedom for each member: above 33.7 in one of
    10,000 cases. The keys are fixed, so this passes or fails for good.
    """
    places = np.array([permute(np.arange(10), 10, key_of("even", k)) for k in range(4000)])
    for member in range(10):
        counts = np.bincount(places[:, member], minlength=10)
        assert ((counts - 400) ** 2 / 400).sum() < 33.7


def test_neighbours_part():
    """In a large permutation neighbours lie, as at random, a third of the whole apart."""
    size = 100_003
    gaps = np.abs(np.diff(permute(np.arange(size), size, key_of("gaps"))))
    assert abs(gaps.mean() / size - 1 / 3) < 0.01
