"""Finds texts that no spec may have: passwords in URLs, and halves of surrogate pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

PASSWORD = "an address with a password in it: secrets come from environment variables"
SURROGATE = "half of a surrogate pair, which is no character: leave it out"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@:]*:[^/?#\s]*@")
_SURROGATE = re.compile("[\ud800-\udfff]")

Place = tuple[str | int, ...]


def passwords_in(text: str) -> Iterator[int]:
    """Offsets in a text of the URLs that contain a password."""
    return (found.start() for found in _ADDRESS.finditer(text))


def passwords(value: Any) -> Iterator[Place]:
    """Paths in plain data to the texts with a URL that contains a password."""
    return _where(value, lambda text: next(passwords_in(text), None) is not None)


def surrogates(value: Any) -> Iterator[Place]:
    """Paths in plain data to the texts with half of a surrogate pair."""
    return _where(value, lambda text: _SURROGATE.search(text) is not None)


def _where(value: Any, unfit: Callable[[str], bool], at: Place = ()) -> Iterator[Place]:
    if isinstance(value, str) and unfit(value):
        yield at
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from _where(key, unfit, at)  # the key's own path would repeat the text
        yield from _where(item, unfit, (*at, key))
