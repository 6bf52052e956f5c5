"""What the user allows beyond what any spec may do: by ``--allow``, or by ENGINE_ALLOW.

A spec is data and may come from anybody. What leaves the machine or runs code is allowed by who runs
it, one word for each: ``network=HOST``, ``secret=NAME@HOST``, ``code``, ``files``; and by ``versions``
and ``memory``, what may go worse than promised.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import SpecError

VARIABLE = "ENGINE_ALLOW"
"""The environment variable with the same words, parted by blanks or commas."""
PLAIN = ("versions", "memory", "code", "files")
USAGE = "versions|memory|code|files|network=HOST|secret=NAME@HOST"

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+"
_WORD = re.compile(rf"{'|'.join(PLAIN)}|network=({_HOST})|secret={_NAME}@({_HOST})")
# Characters on whose meaning libraries that open addresses differ, such as \, are not among these.
_URL = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^/?#\s@\\]*@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|"
    rf"(?P<host>{_HOST}))(?::[0-9]{{1,5}})?(?:[/?#][!-\[\]-~]*)?",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@:]*:[^/?#\s]*@")


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a component's ``field`` does, and the ``--allow`` word for it."""

    field: str
    does: str
    """Such as ``sends prompts and answers to scores.example``."""
    word: str


@dataclass(frozen=True, slots=True)
class Permissions:
    """The words that are allowed."""

    words: frozenset[str] = frozenset()

    @classmethod
    def given(cls, words: Iterable[str] = ()) -> Permissions:
        """These and the environment's. Raises SpecError for what is no such word."""
        told = [("--allow", word) for word in words]
        told += [(VARIABLE, w) for w in re.split(r"[\s,]+", os.environ.get(VARIABLE, "")) if w]
        wrong = [
            f"{where}: {word!r} is none of {USAGE}" for where, word in told if not _known(word)
        ]
        if wrong:
            raise SpecError(*wrong)
        return cls(frozenset(_canonical(word) for _, word in told))

    def allows(self, word: str) -> bool:
        """Whether this was allowed."""
        return _canonical(word) in self.words

    def refusals(self, needs: Iterable[Need]) -> Iterator[tuple[str, str]]:
        """Field, and what to say, of each need that was not allowed."""
        for need in needs:
            if not self.allows(need.word):
                yield need.field, f"{need.does}; add `--allow {need.word}` where that may be"


def host_of(url: str) -> str:
    """The host of an address. Raises ValueError, which does not repeat it: it may hold a password."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("is no plain address such as https://host:8000/path")
    if found["user"]:
        raise ValueError("has a user or password in it; secrets come from environment variables")
    return str(found["six"] or found["host"]).lower()


def network_need(field: str, url: str, does: str) -> Iterator[Need]:
    """What a request to an address needs: nothing where it stays on this machine. Raises ValueError."""
    host = host_of(url)
    if not is_loopback(host):
        yield Need(field, f"{does} to {host}", f"network={host}")


def secret_need(field: str, name: str, url: str) -> Need:
    """What sending an environment variable to an address needs, wherever that is. Raises ValueError."""
    host = host_of(url)
    return Need(field, f"sends ${name} to {host}", f"secret={name}@{host}")


def is_loopback(host: str) -> bool:
    """Whether it is this machine by a name that nobody can turn elsewhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def passwords(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in plain data there is an address with a password in it."""
    if isinstance(value, str) and _PASSWORD.search(value):
        yield at
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from passwords(item, (*at, key))


def _known(word: str) -> bool:
    found = _WORD.fullmatch(word)
    host = (found[1] or found[2] or "") if found else ""
    return found is not None and (":" not in host or _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _canonical(word: str) -> str:
    """Hosts in small letters; names of variables as they are."""
    kind, equals, what = word.partition("=")
    name, at, host = what.rpartition("@")
    return f"{kind}{equals}{name}{at}{host.lower()}"
