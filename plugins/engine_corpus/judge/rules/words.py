"""Splits text into words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from itertools import groupby
from typing import Literal

Kind = Literal["unicode", "whitespace"]
Split = Callable[[str], list[str]]
"""The words of a text in their order, none of which has white space in it."""

_LAST_MARK = 0xE01F0
"""Code point after the last combining mark."""


@cache
def splitter(words: Kind) -> Split:
    """Returns the function that splits text into words.

    ``unicode``: a word begins and ends with a letter or digit; punctuation inside it belongs to it,
    as in ``don't``, ``3.14`` and ``os.path``, except commas, colons, slashes, ``< = > ~`` and dashes.
    A run of dots or of ``- / @ | \\ ^ ~`` is a word, and so is every other symbol. With these words the
    Gopher rules keep and drop 97 % of short pieces of documentation and sources as with those of
    spaCy's English tokenizer, which datatrove uses. ``whitespace``: all that stands between white
    space. Both take time proportional to the text's length.
    """
    if words == "whitespace":
        return str.split
    letter, inner = r"[^\W_]", r"[^\s,:<>=/~–—-]"
    # The look-ahead spares Latin text the slow search in the many ranges of combining marks.
    marks = f"(?:(?=[^\\x00-\\u02ff])[{_ranges(_combining_marks())}]+)?"
    everywhere = _word(letter, inner, rf"\S{marks}", marks)
    # Of ASCII alone, the same classes of characters are bitmaps: faster.
    space = r"\t-\r\x1c-\x20"
    ascii_only = _word("[0-9A-Za-z]", f"[^{space},:<>=/~-]", f"[^{space}]")
    return lambda text: (ascii_only if text.isascii() else everywhere)(text)


def _word(letter: str, inner: str, symbol: str, marks: str = "") -> Split:
    pattern = rf"{letter}(?:{inner}*{letter})?{marks}|[-/@|\\^~]+|\.\.+|{symbol}"
    return re.compile(pattern).findall


def _combining_marks() -> Iterable[int]:
    return (c for c in range(_LAST_MARK) if unicodedata.category(chr(c)).startswith("M"))


def _ranges(code_points: Iterable[int]) -> str:
    """A regular expression's ranges of ascending code points."""
    found = []
    for _, run in groupby(enumerate(code_points), lambda pair: pair[1] - pair[0]):
        numbers = [code_point for _, code_point in run]
        found.append(f"\\U{numbers[0]:08x}-\\U{numbers[-1]:08x}")
    return "".join(found)
