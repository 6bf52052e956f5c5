"""Telephone numbers in forms that other numbers do not have.

- International, with a plus sign (ITU-T E.123): ``+49 30 1234567``.
- North American, with parentheses, or with the same hyphen or dot twice: ``(212) 555-0187``.
- Any other of 7 to 15 digits after a word such as ``Tel.`` or ``phone:``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_INTERNATIONAL = re.compile(r"\+[1-9](?:[ \u00a0./()-]{0,3}[0-9]){7,14}")
_AMERICAN = re.compile(
    r"(?:\([2-9][0-9]{2}\)[ \u00a0]?[2-9][0-9]{2}[ .-]|[2-9][0-9]{2}([.-])[2-9][0-9]{2}\1)[0-9]{4}"
)
_COUNTRY = re.compile(r"(?<![\w.+-])1[ .-]\Z")
_DATE = re.compile(r"\+[12][0-9]{3}-[01][0-9]-[0-3][0-9]")
_NO_DIGITS = re.compile(r"[^0-9]+")
_OTHER = re.compile(r"\(?[0-9](?:[ \u00a0./()-]{0,2}[0-9]){6,14}")
_CUE = re.compile(
    r"(?<![^\W_])(?:tel|telephone|telefon|téléphone|teléfono|phone|fon|fax|telefax|mobile|mobil|cell"
    r"|handy|hotline|whatsapp)(?:[ .]{0,2}(?:no|nr|number|nummer))?(?P<mark>[.:]{0,2})\s{0,2}\Z",
    re.IGNORECASE,
)
_CUE_LENGTH = 32
_UNMARKED = 9
"""Digits that a number after a word without a full stop or colon has at least: "fax 1234567"."""
_LONG = 10
"""Digits of an international number without separators."""

HINT = (
    r"\+[1-9][ \u{a0}./()0-9-]|[2-9][0-9]{2}(?:\)[ \u{a0}]?|[.-])[2-9][0-9]{2}[ .-][0-9]{4}"
    r"|(?i:tel|fon|fono|phone|fax|mobile?|cell|handy|hotline|whatsapp)[ .]{0,2}(?i:no|nr|num[bm]er)?"
    r"[.:]{0,2}\s{0,2}\(?[0-9]"
)
"""A pattern that is found in every text with a number, in the syntax of Rust's regex."""


def phones(text: str) -> Iterator[tuple[int, int]]:
    """The starts and ends of telephone numbers."""
    yield from _international(text)
    yield from _american(text)
    yield from _after_words(text)


def _international(text: str) -> Iterator[tuple[int, int]]:
    for match in _INTERNATIONAL.finditer(text):
        groups = _NO_DIGITS.split(match[0][1:])
        # "+35236450.6" is a decimal number.
        phone = len(groups[-1]) > 1 and "+" + ".".join(groups[:2]) != match[0]
        phone = (phone or len(groups[0]) >= _LONG) and not _DATE.match(match[0])
        if phone and _apart(text, *match.span()):
            yield match.span()


def _american(text: str) -> Iterator[tuple[int, int]]:
    for match in _AMERICAN.finditer(text):
        start, end = match.span()
        country = _COUNTRY.search(text[max(start - 3, 0) : start])
        if country:
            start -= 2
        if _apart(text, start, end):
            yield start, end


def _after_words(text: str) -> Iterator[tuple[int, int]]:
    for match in _OTHER.finditer(text):
        start, end = match.span()
        cue = _CUE.search(text[max(start - _CUE_LENGTH, 0) : start])
        if cue and not _goes_on(text, end):
            digits = sum(map(str.isdigit, match[0]))
            if cue["mark"] or digits >= _UNMARKED:
                yield start, end


def _apart(text: str, start: int, end: int) -> bool:
    """Whether it is no part of a longer name or number."""
    before = text[max(start - 2, 0) : start]
    joined = before[-1:] in tuple(".-/+,=") and before[:1].isalnum()
    within = before[-1:].isalnum() or before[-1:] == "_"
    return not (within or (joined and len(before) > 1)) and not _goes_on(text, end)


def _goes_on(text: str, end: int) -> bool:
    after = text[end : end + 2]
    word = after[:1].isalnum() or after[:1] == "_"
    return word or (after[:1] in tuple(".-/ ") and after[1:].isdigit())
