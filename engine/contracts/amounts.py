"""Types of the values in a spec: amounts, intervals, counts, shares and names."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import core_schema

Unit = Literal["steps", "tokens", "epochs", "seconds", "share"]

_UNITS: dict[str, tuple[Unit, float]] = {
    **dict.fromkeys(("step", "steps"), ("steps", 1)),
    **dict.fromkeys(("token", "tokens"), ("tokens", 1)),
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1)),
    **dict.fromkeys(("s", "second", "seconds"), ("seconds", 1)),
    **dict.fromkeys(("min", "minute", "minutes"), ("seconds", 60)),
    **dict.fromkeys(("h", "hour", "hours"), ("seconds", 3600)),
    **dict.fromkeys(("d", "day", "days"), ("seconds", 86400)),
    "%": ("share", 0.01),
}
_MULTIPLES = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_LARGEST = 1e18
_NUMBER = r"\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([kMBGT]?)\s*"
_AMOUNT = re.compile(rf"{_NUMBER}([a-z%]+)\s*")
_AMOUNT_EXAMPLES = "write e.g. '4M tokens', '200 steps', '2 epochs', '2h' or '1%'"


@dataclass(frozen=True, slots=True)
class Amount:
    """A budget, interval or length: steps, tokens, epochs, seconds, or a share of the budget."""

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: object) -> Amount:
        """Parses ``'4M tokens'``, ``{'tokens': '4M'}``, ``'2h'`` or ``'1%'``. Raises ValueError."""
        if isinstance(text, Amount):
            return text
        if isinstance(text, dict) and len(text) == 1:
            unit, value = next(iter(text.items()))
            text = f"{value} {unit}"
        found = _AMOUNT.fullmatch(str(text))
        if not found or found[3] not in _UNITS:
            raise ValueError(f"{reprlib.repr(text)} is not an amount: {_AMOUNT_EXAMPLES}")
        unit, factor = _UNITS[found[3]]
        value = float(found[1].replace("_", "")) * _MULTIPLES[found[2]] * factor
        if value > _LARGEST:
            raise ValueError(f"{reprlib.repr(text)} is too large: the limit is {_LARGEST:g}")
        return cls(value, unit)

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{self.value * 100:g}%"
        value = int(self.value) if self.value == int(self.value) else self.value
        return f"{value} {self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(str),
            json_schema_input_schema=core_schema.union_schema(
                [
                    core_schema.str_schema(),
                    core_schema.dict_schema(
                        core_schema.str_schema(), core_schema.any_schema(), max_length=1
                    ),
                ]
            ),
        )


def units(*allowed: Unit) -> BeforeValidator:
    """Restricts an :class:`Amount` field to some units."""

    def check(value: object) -> Amount:
        amount = Amount.parse(value)
        if amount.unit not in allowed:
            raise ValueError(f"'{value}' is in {amount.unit}; use {' or '.join(allowed)}")
        return amount

    return BeforeValidator(check)


def _positive(amount: Amount) -> Amount:
    if amount.value <= 0:
        raise ValueError(f"'{amount}' is not an interval; use more than 0")
    return amount


def _number(value: object) -> object:
    """``'4M'`` → 4_000_000; numbers and everything else pass to pydantic unchanged."""
    if isinstance(value, bool):
        raise ValueError(f"{value} is not a number")
    if isinstance(value, str) and (found := re.fullmatch(_NUMBER, value)):
        value = float(found[1].replace("_", "")) * _MULTIPLES[found[2]]
    if isinstance(value, int | float) and value > _LARGEST:
        raise ValueError(f"{reprlib.repr(value)} is too large: the limit is {_LARGEST:g}")
    return value


def _share(value: object) -> object:
    """``'1%'`` → 0.01."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*%\s*", value)):
        return float(found[1]) / 100
    return _number(value)


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):  # the value may be secret
        raise ValueError(
            "takes the name of an environment variable (A-Z, 0-9, _); never write its value in a spec"
        )
    return name


Count = Annotated[
    int,
    BeforeValidator(_number, json_schema_input_type=Annotated[int, Field(ge=1)] | str),
    Field(ge=1),
]
"""A positive whole number, which may also be written ``16k`` or ``4M``."""
Number = Annotated[
    float, BeforeValidator(_number, json_schema_input_type=float | str), Field(allow_inf_nan=False)
]
"""A number that may also be written ``4M``."""
Share = Annotated[
    float, BeforeValidator(_share, json_schema_input_type=float | str), Field(ge=0, le=1)
]
"""A share between 0 and 1, which may also be written ``1%``."""
Interval = Annotated[Amount, AfterValidator(_positive)]
"""An interval: an :class:`Amount` above 0."""
VariableName = Annotated[str, AfterValidator(_variable)]
"""Name of the environment variable that holds a secret."""


_LONGEST_NAME = 100


def _slug(allowed: str) -> AfterValidator:
    def check(name: str) -> str:
        if len(name) > _LONGEST_NAME or not re.fullmatch(
            rf"[A-Za-z0-9][A-Za-z0-9_{allowed}-]*", name
        ):
            also = f" and '{allowed}'" if allowed else ""
            raise ValueError(
                f"a name has letters, digits, '-', '_'{also}, at most {_LONGEST_NAME} characters, "
                "since it names a folder"
            )
        return name

    return AfterValidator(check)


Name = Annotated[str, _slug(".")]
StageName = Annotated[str, _slug("")]  # no '.', which separates the names in a path
