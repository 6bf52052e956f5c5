"""Templates and expressions of a record reach a row only, and never change it."""

from __future__ import annotations

import pytest
from engine_evals.benchmarks.templates import WRONG_ROW, boxed, expression, ones, template


def test_templates_can_neither_change_nor_reach_anything():
    """A record is data: what it was given stays as it was, and Python stays out of reach."""
    row = {"cities": ["Lima"]}
    for hostile in ("cities.append('x')", "cities.__class__.__mro__", "cities.pop()"):
        with pytest.raises(WRONG_ROW):
            template("{{ " + hostile + " }}")(**row)
        with pytest.raises(WRONG_ROW):
            expression("(" + hostile + ") ~ ''")(**row)
    assert row == {"cities": ["Lima"]}


def test_filters_take_only_what_they_are_for():
    """An empty label is no 0, and a solution without a box has no answer."""
    with pytest.raises(ValueError, match="invalid literal"):
        expression("label | int")(label="")
    assert ones([1, 0, 1]) == [0, 2]
    assert boxed(r"$\boxed{1}$, so $\boxed{\frac{1}{2}}$.") == r"\boxed{\frac{1}{2}}"
    assert boxed(r"It is $\boxed 9$.") == r"\boxed{9}"
    for without in ("It is 9.", r"It is \boxed{9"):
        with pytest.raises(ValueError, match="has no"):
            boxed(without)


@pytest.mark.parametrize(
    "source", ["{{ ''|sub(pattern) }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"]
)
def test_a_row_that_a_template_chokes_on_is_malformed(source):
    """By a pattern of its own that is none, or by what has no end; the others are still asked."""
    with pytest.raises(WRONG_ROW):
        template(source)(pattern="(")
