"""A curve in characters shows what the values do, and loses no spike."""

from __future__ import annotations

import numpy as np
import pytest
from engine_report.watch.plot import curve

STEPS = np.arange(1.0, 1001.0)


def drawn(values, *, plain=True, steps=STEPS, width=20, height=5):
    return [line for _, line in curve(steps, values, width, height, plain=plain)]


def test_a_falling_line():
    """Goes from the upper left to the lower right corner, one mark or two in a column."""
    lines = drawn(1000 - STEPS - 0.5)
    assert [len(line) for line in lines] == [20] * 5
    assert (lines[0][0], lines[-1][-1]) == ("*", "*")
    heights = [[n for n, line in enumerate(lines) if line[c] == "*"] for c in range(20)]
    assert all(len(marks) in (1, 2) for marks in heights)
    assert heights == sorted(heights)


def test_one_spike_in_many_steps_is_seen():
    """It reaches the top, and the rest is at the bottom."""
    values = np.full(1_000_000, 1.0)
    values[700_000] = 9.0
    lines = drawn(values, steps=np.arange(1.0, 1_000_001.0))
    assert lines[0].count("*") in (1, 2)
    assert abs(lines[0].index("*") - 14) <= 1
    assert lines[-1].count("*") == 20


def test_dots_of_braille_are_eight_in_a_character():
    """The same line, four times as high and twice as wide."""
    lines = drawn(-STEPS, plain=False, width=10, height=2)
    assert [len(line) for line in lines] == [10, 10]
    assert all(0x2800 <= ord(character) <= 0x28FF for line in lines for character in line)
    assert ord(lines[0][0]) & 0x01
    assert ord(lines[1][-1]) & 0x80
    assert lines[0][-1] == lines[1][0] == "\u2800"


def test_labels_are_the_values_of_their_lines():
    """On a logarithmic scale if all are positive, else on a linear one."""
    assert [label for label, _ in curve(STEPS, np.linspace(100, 1, 1000), 20, 5)] == [
        "100", "", "10", "", "1",
    ]  # fmt: skip
    assert [label for label, _ in curve(STEPS, np.linspace(4, -4, 1000), 20, 5)] == [
        "4", "", "0", "", "-4",
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_left_out(bad):
    """The others are drawn; without two of them, nothing."""
    values = np.where(STEPS % 2 == 0, bad, 3 - STEPS)
    assert drawn(values) == drawn(3 - STEPS[::2], steps=STEPS[::2])
    assert curve(STEPS, np.full(1000, bad), 20, 5) == []
    assert curve(STEPS[:1], STEPS[:1], 20, 5) == []


def test_few_steps_are_joined():
    """Two values make a line over the whole width."""
    lines = drawn(np.array([4.0, -4.0]), steps=np.array([1.0, 2.0]))
    assert all(any(line[column] == "*" for line in lines) for column in range(20))


def test_equal_values_are_a_level_line():
    """At the axis, without a division by zero."""
    assert drawn(np.ones(1000))[0] == "*" * 20
