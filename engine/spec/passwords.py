"""Finds passwords in URLs, in text and in plain data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PASSWORD = "an address with a password in it: secrets come from environment variables"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@:]*:[^/?#\s]*@")


def passwords_in(text: str) -> Iterator[int]:
    """Offsets in a text of the URLs that contain a password."""
    return (found.start() for found in _ADDRESS.finditer(text))


def passwords(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths in plain data to the texts with a URL that contains a password."""
    if isinstance(value, str) and next(passwords_in(value), None) is not None:
        yield at
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from passwords(key, at)  # the key's own path would repeat the password
        yield from passwords(item, (*at, key))
