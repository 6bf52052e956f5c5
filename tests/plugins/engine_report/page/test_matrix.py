"""Numbers are read easily, also where rounding brings them to their next unit."""

from __future__ import annotations

import pytest
from engine_report.page.matrix import amount, duration, precise, size


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"), (0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (5_100_000, "5.1 MB"),
        (999.4e6, "999 MB"), (999.6e6, "1 GB"), (999.9e9, "1 TB"), (5.5e15, "5,500 TB"),
    ],
)  # fmt: skip
def test_sizes(value, told):
    """Three digits, and the next unit from 999.5 on."""
    assert size(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.5, "0.5"), (999.7, "1k"), (2.56e6, "2.56M"), (999_600, "1M"), (9.996e14, "1e+15")],
)
def test_amounts(value, told):
    """Likewise, with letters up to a thousand million million."""
    assert amount(value) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.25, "0.25 s"), (9.7, "10 s"), (59.4, "59 s"), (59.7, "1 min 0 s"), (119.8, "2 min 0 s"),
        (599.4, "9 min 59 s"), (599.7, "10 min"), (3599, "1 h 0 min"), (4320, "1 h 12 min"),
        (48 * 3600 - 1, "2 d 0 h"),
    ],
)  # fmt: skip
def test_durations(seconds, told):
    """No unit is full: neither 60 s nor 60 min."""
    assert duration(seconds) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "–"), (2.07834, "2.0783"), (-1.5, "-1.5000"), (1e-5, "1e-05"), (3.2e7, "3.2e+07")],
)
def test_losses(value, told):
    """Four digits after the point where these are of use."""
    assert precise(value) == told
