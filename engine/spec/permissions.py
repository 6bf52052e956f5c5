"""Permissions beyond what every spec has: by ``--allow``, or by ENGINE_ALLOW.

A spec is data and may come from an untrusted author. Only the user who runs it can allow it to send
data or run code, with one word for each: ``network=HOST``, ``secret=NAME@HOST``, ``code``, ``files``.
``versions`` allows a resume that may not be exact; plugins may add words of their own.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from engine.contracts.config import Need
from engine.errors import SpecError

VARIABLE = "ENGINE_ALLOW"
"""Environment variable with further words, separated by spaces or commas."""
PLAIN = ("versions", "code", "files")

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+"
_WORD = re.compile(rf"network=({_HOST})|secret={_NAME}@({_HOST})")
# Excludes characters that HTTP libraries interpret differently, such as \.
_URL = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^/?#\s@\\]*@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|"
    rf"(?P<host>{_HOST}))(?::[0-9]{{1,5}})?(?:[/?#][!-\[\]-~]*)?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Permissions:
    """The permissions that the user gave, as words."""

    words: frozenset[str] = frozenset()

    @classmethod
    def given(cls, words: Iterable[str] = (), declared: Collection[str] = ()) -> Permissions:
        """Permissions from ``words`` and the environment; ``declared``: words that plugins add. Raises
        SpecError for unknown words."""
        plain = (PLAIN[0], *sorted(declared), *PLAIN[1:])
        usage = "|".join((*plain, "network=HOST", "secret=NAME@HOST"))
        found = [("--allow", word) for word in words]
        found += [(VARIABLE, w) for w in re.split(r"[\s,]+", os.environ.get(VARIABLE, "")) if w]
        wrong = [
            f"{where}: {word!r} is not one of {usage}; HOST is a name or an address without a port"
            for where, word in found
            if word not in plain and not _known(word)
        ]
        if wrong:
            raise SpecError(*wrong)
        return cls(frozenset(_canonical(word) for _, word in found))

    def allows(self, word: str) -> bool:
        """Whether the user gave this word."""
        return _canonical(word) in self.words

    def refusals(self, needs: Iterable[Need]) -> Iterator[tuple[str, str]]:
        """Field and message for each need that was not allowed."""
        for need in needs:
            if not self.allows(need.word):
                yield need.field, f"{need.does}; to allow that, add `--allow {need.word}`"


def host_of(url: str) -> str:
    """The host of a URL. Raises ValueError without the URL, which may contain a password."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("is not a plain address such as https://host:8000/path")
    if found["user"]:
        raise ValueError("has a user or password in it; secrets come from environment variables")
    return str(found["six"] or found["host"]).lower()


def network_need(field: str, url: str, does: str) -> Iterator[Need]:
    """Permission for a request to ``url``; none for this machine. Raises ValueError."""
    host = host_of(url)
    if not is_loopback(host):
        yield Need(field, f"{does} to {host}", f"network={host}")


def secret_need(field: str, name: str, url: str) -> Need:
    """Permission to send an environment variable to ``url``, even a local one. Raises ValueError."""
    host = host_of(url)
    return Need(field, f"sends ${name} to {host}", f"secret={name}@{host}")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by an address or by a name that cannot be redirected."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    """The word with its host in lower case."""
    kind, equals, value = word.partition("=")
    name, at, host = value.rpartition("@")
    return f"{kind}{equals}{name}{at}{host.lower()}"
