"""Recognises a refusal by its opening, by the patterns in refusals.yaml.

It misses refusals in other words, and ignores whether help follows.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml

_OPENING = 200
"""Characters within which a refusal must occur; also keeps matching fast on repetitive texts."""


def is_refusal(text: str) -> bool:
    """Whether the text begins with a refusal, by the patterns in refusals.yaml."""
    plain = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _refusals().match(re.sub(r"^\W+", "", plain)[:_OPENING]) is not None


@cache
def _refusals() -> re.Pattern[str]:
    file = Path(__file__).with_name("refusals.yaml")
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    before, refusals = ("|".join(told[name]) for name in ("before", "refusals"))
    return re.compile(rf"(({before})\b[\s,.;:!–—-]*){{0,4}}({refusals})(?!\w)", re.IGNORECASE)
