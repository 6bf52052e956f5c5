"""Postal addresses in the forms of English and German: a street with a number.

- ``12 Main Street``; streets whose last word has other meanings, such as ``Drive``, and numbers that
  may be years, only with a flat, or a town with its code: ``5 Park Drive, Salem, OR 97301``.
- ``Hauptstraße 12``; names in -weg, -platz and the like only with code and town.
- ``PO Box 123``, ``Postfach 12 34``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_GAP = r"(?:,?[ \u00a0]|,?\n)"
_FLAT = rf"{_GAP}(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?[A-Za-z0-9-]{{1,6}}\b"
_NAME = r"[A-Z][A-Za-z.'\u2019-]{1,20}"
_CODE = (
    r"(?:[A-Z]{2}[ ,\u00a0]{1,2}[0-9]{5}(?:-[0-9]{4})?"  # US
    r"|[A-Z]{1,2}[0-9][0-9A-Z]? ?[0-9][A-Z]{2})(?![\w-])"  # UK
)
_TOWN = rf"{_GAP}(?:{_NAME} ){{0,2}}{_NAME}{_GAP}{_CODE}"
_ENGLISH = re.compile(
    r"(?P<number>[1-9][0-9]{0,4}[A-Za-z]?) (?:[NSEW]\.? )?(?!The |An? )"
    rf"(?:(?:{_NAME}|[0-9]{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?"
    r"(?:(?P<sure>Street|St\b\.?|Avenue|Ave\b\.?|Road|Rd\b\.?|Boulevard|Blvd\b\.?|Lane|Ln\b\.?)"
    r"|Drive|Dr\b\.?|Court|Ct\b\.?|Place|Pl\b\.?|Way|Square|Sq\b\.?|Terrace|Highway|Hwy\b\.?|Parkway"
    rf"|Pkwy\b\.?|Circle|Close|Crescent|Gardens)(?!\w)(?P<flat>{_FLAT})?(?P<town>{_TOWN})?"
)
_YEAR = re.compile(r"(?:1[89]|20)[0-9]{2}")
_GERMAN_TOWN = r",?\s[0-9]{5} [A-ZÄÖÜ][a-zäöüß]+"
_GERMAN = re.compile(
    rf"(?:[Ss]traße|[Ss]trasse|[Ss]tr\.) ?[1-9][0-9]{{0,3}}(?: ?[a-z])?(?!\w)(?:{_GERMAN_TOWN})?"
    rf"|(?:weg|platz|allee|gasse|ring|damm|ufer) [1-9][0-9]{{0,3}}(?: ?[a-z])?{_GERMAN_TOWN}"
)
_GERMAN_NAME = re.compile(r"(?<!\w)[A-ZÄÖÜ][\w-]{1,39}\Z")
_NAME_LENGTH = 42
_BOX = re.compile(r"(?:P\. ?O\. ?|PO )Box [0-9]{1,6}(?!\w)|Postfach [0-9]{1,3}(?: [0-9]{2,3}){0,2}")

HINT = (
    r"[0-9][A-Za-z]? (?:[NSEW]\.? )?(?:[A-Z]|[0-9]{1,3}(?:st|nd|rd|th) )"
    r"|[Ss]tr(?:a(?:ß|ss)e|\.) ?[1-9]|(?:weg|platz|allee|gasse|ring|damm|ufer) [1-9]|Box [0-9]|Postfach"
)
"""A pattern that is found in every text with an address, in the syntax of Rust's regex."""


def addresses(text: str) -> Iterator[tuple[int, int]]:
    """The starts and ends of postal addresses."""
    for match in _ENGLISH.finditer(text):
        start, end = match.span()
        before = text[start - 1 : start]
        # "1 First Street" is enough, but neither "2 Park Place" nor "2008 Wall Street".
        alone = match["sure"] and not _YEAR.fullmatch(match["number"])
        if (alone or match["flat"] or match["town"]) and not _joins(before):
            yield start, end
    for match in _GERMAN.finditer(text):
        start = match.start()
        start -= match[0].startswith("S") and text[start - 1 : start] == " "  # "Lange Straße 5"
        if name := _GERMAN_NAME.search(text[max(start - _NAME_LENGTH, 0) : start]):
            yield start - len(name[0]), match.end()
    for match in _BOX.finditer(text):
        if not _joins(text[match.start() - 1 : match.start()]):
            yield match.span()


def _joins(before: str) -> bool:
    return before.isalnum() or before in tuple("_.-$€£")
