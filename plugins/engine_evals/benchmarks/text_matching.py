"""Extracts the answer from a text, and normalises answers for exact comparison."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager

from engine import time_limit
from engine_evals.benchmarks.record import Match

NOT_FOUND = "[invalid]"
"""Marks an answer that was not found, as in lm-eval."""


def answer_in(match: Match, text: str) -> str:
    """The answer in a text by the match's pattern, or NOT_FOUND."""
    if match.find is None:
        return text
    with _limited(match.find):
        findings = list(re.finditer(match.find, text))
    if not findings:
        return NOT_FOUND
    one = findings[0 if match.take == "first" else -1]
    return next((group for group in one.groups() if group), one[0]).strip()


def comparable(match: Match, text: str) -> str:
    """The answer without what the match ignores."""
    for pattern in match.ignore:
        with _limited(pattern):
            text = re.sub(pattern, "", text)
    return text.lower() if match.ignore_case else text


def _limited(pattern: str) -> AbstractContextManager[None]:
    return time_limit(f"the pattern {pattern!r}", "avoid nested repetitions in it")
