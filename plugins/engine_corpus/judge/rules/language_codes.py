"""Codes of languages, ISO 639-1 where CLD2 has older ones."""

from __future__ import annotations

from functools import cache

import pycld2

_NEWER = {"iw": "he", "jw": "jv"}
UNKNOWN = "un"
"""CLD2's code for a language that it does not recognise."""


def modern(code: str) -> str:
    """The code that is in use today."""
    return _NEWER.get(code, code)


@cache
def known_languages() -> frozenset[str]:
    """The codes of all languages that CLD2 can detect."""
    detected = frozenset(pycld2.DETECTED_LANGUAGES)
    return frozenset(modern(code) for name, code in pycld2.LANGUAGES if name in detected)
