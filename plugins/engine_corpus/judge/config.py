"""Configuration of the step that selects documents by their annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from engine import Config

_BOUND = re.compile(r"(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)")
_SHARE = re.compile(r"(best|highest|lowest) (\d+(?:\.\d+)?)\s*% of each source")


@dataclass(frozen=True, slots=True)
class Bound:
    """Values to keep: those that ``comparison`` holds of, to ``number``."""

    comparison: Literal[">=", "<=", ">", "<"]
    number: float


@dataclass(frozen=True, slots=True)
class Best:
    """Values to keep: this ``share`` of each source's, the highest or the lowest ones."""

    share: float
    lowest: bool


def criterion(text: str) -> Bound | Best:
    """What a text such as ``>= 0.5`` or ``best 80% of each source`` keeps. Raises ValueError."""
    if found := _BOUND.fullmatch(text.strip()):
        return Bound(found[1], float(found[2]))  # type: ignore[arg-type]
    if (found := _SHARE.fullmatch(text.strip())) and 0 < float(found[2]) <= 100:
        return Best(float(found[2]) / 100, found[1] == "lowest")
    raise ValueError(
        f"'{text}' is neither a bound such as '>= 0.5' nor a share such as 'best 80% of each source' "
        "(best or highest: the greatest values; lowest: the least)"
    )


class Select(Config):
    """Keeps documents by what earlier processors have annotated."""

    keep: Mapping[str, str] = Field(
        min_length=1,
        description="Values to keep, by the annotation's name: a bound ('>= 0.5') or a share ('best "
        "80% of each source'). A document stays if each holds; one without a value falls.",
    )

    @field_validator("keep")
    @classmethod
    def _readable(cls, keep: Mapping[str, str]) -> Mapping[str, str]:
        for text in keep.values():
            criterion(text)
        return keep
