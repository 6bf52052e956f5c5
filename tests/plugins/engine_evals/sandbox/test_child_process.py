"""What crosses between a program and its tests."""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict, deque
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from engine_evals.sandbox.child_process import decode, encode
from hypothesis import given, strategies as st

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(PLAIN)
def test_values_travel_unchanged(value):
    """Through JSON and back: the same value, of the same type."""
    back = decode(json.loads(json.dumps(encode(value, list))), lambda kind, content: None)
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, frozenset({(1, 2)}), deque([1, 2]), Counter("abb"), OrderedDict(a=1), range(1, 9, 2),
        bytearray(b"x"), {(1, "a"): [Decimal("1.50")]}, [date(2024, 2, 29)], Fraction(1, 3), math.inf,
    ],
    ids=repr,
)  # fmt: skip
def test_collections_travel_unchanged(value):
    """The kinds that functions of benchmarks give, keys included."""
    back = decode(json.loads(json.dumps(encode(value, list))), lambda kind, content: None)
    assert (back, type(back)) == (value, type(value))
