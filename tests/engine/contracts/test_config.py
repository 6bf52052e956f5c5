"""The values that specs are written in."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter, ValidationError

from engine.contracts.amounts import (
    Amount,
    Count,
    Interval,
    Number,
    Share,
    VariableName,
    units,
)

UNITS = ["steps", "tokens", "epochs", "seconds"]


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("4M tokens", 4e6, "tokens"),
        ("4Mtokens", 4e6, "tokens"),
        ("1_000 steps", 1000, "steps"),
        ("1 step", 1, "steps"),
        ("2.5 epochs", 2.5, "epochs"),
        ("1e3 tokens", 1000, "tokens"),
        ("2h", 7200, "seconds"),
        ("10 minutes", 600, "seconds"),
        ("1d", 86400, "seconds"),
        ("1.5B tokens", 1.5e9, "tokens"),
        ("5%", 0.05, "share"),
        ({"tokens": "4M"}, 4e6, "tokens"),
        ({"steps": 3}, 3, "steps"),
    ],
)
def test_amounts_are_written_as_people_say_them(text, value, unit):
    """A number, perhaps a multiple, and a unit; or a mapping of the unit to the number."""
    assert Amount.parse(text) == Amount(pytest.approx(value), unit)


@pytest.mark.parametrize(
    "text",
    ["4", 4, None, True, "", "tokens", "-1 steps", "4 parsecs", "4 m", "4K tokens", "nan steps",
     "1 2 steps", {}, {"steps": 1, "tokens": 2}, {"steps": None}, [], "4M tokens of text"],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_examples(text):
    """Nothing is guessed: without its unit a number is none."""
    with pytest.raises(ValueError, match=r"is not an amount: write e\.g\. '4M tokens'"):
        Amount.parse(text)


@given(st.floats(0, 1e18), st.sampled_from(UNITS))
def test_an_amount_reads_as_what_it_was(value, unit):
    """What resolved.yaml says of a budget is that budget, up to rounding."""
    amount = Amount(value, unit)
    again = Amount.parse(str(amount))
    assert (again.unit, again.value) == (unit, pytest.approx(value, rel=1e-12))
    assert Amount.parse(str(again)) == again


@given(st.floats(0, 10))
def test_a_share_reads_as_what_it_was(value):
    """To the six digits that are told."""
    assert Amount.parse(str(Amount(value, "share"))).value == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Count, "16k", 16_000), (Count, "4M", 4_000_000), (Count, "1e3", 1000), (Count, 7, 7),
        (Count, "1_000", 1000), (Number, "1e-3", 1e-3), (Number, "2.5k", 2500.0), (Number, 3, 3.0),
        (Share, "1%", 0.01), (Share, " 12.5 %", 0.125), (Share, 0.5, 0.5), (Share, "0.5", 0.5),
        (Interval, "1 steps", Amount(1, "steps")), (VariableName, "HF_TOKEN", "HF_TOKEN"),
        (Annotated[Interval, units("steps")], "3 steps", Amount(3, "steps")),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(kind, text, value):
    """With multiples, exponents and per cent."""
    assert TypeAdapter(kind).validate_python(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (Count, 0, "greater than or equal to 1"), (Count, 1.5, "fractional"), (Count, "x", "integer"),
        (Count, True, "True is not a number"), (Count, 10**400, "is too large"),
        (Number, "1e400", "is too large"), (Number, float("nan"), "finite"),
        (Number, float("-inf"), "finite"), (Number, False, "False is not a number"),
        (Share, "101%", "less than or equal to 1"), (Share, "x%", "number"),
        (Share, float("nan"), "greater than or equal to 0"), (Interval, "0 steps", "not an interval"),
        (Interval, "1e400 steps", "is too large"),
        (Annotated[Interval, units("steps", "tokens")], "2h", "use steps or tokens"),
        (VariableName, "hf_abcdef", "never write its value in a spec"),
    ],
)  # fmt: skip
def test_what_no_training_can_use_is_refused(kind, text, why):
    """Infinities and truth values among them."""
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(kind).validate_python(text)


def test_a_secret_in_a_spec_is_not_repeated():
    """Where the name of an environment variable belongs, the message keeps the value to itself."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(VariableName).validate_python("hf_abcdef")
    assert "hf_abcdef" not in caught.value.errors()[0]["msg"]
