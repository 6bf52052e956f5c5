"""Public IP addresses. Those of private networks, of documentation and the like name nobody.

A dotted quad is as well a version, a section or an object identifier: it is left if it is part of a
longer name or number, stands after such a word, or has no number above 31, as one in 4,096 addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

_QUAD = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_GROUPS = re.compile(r"[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}")
"""Of the sixth version, the global unicast addresses 2000::/3."""
_SMALL = 32
_CUE = re.compile(
    r"(?:versions?|ver\.?|\bv\.?|releases?|revision|rev\.?|builds?|sections?|sec\.?|chapters?|clauses?"
    r"|rules?|figures?|tables?|firmware|objectidentifier|drivers?|oid|patch|§)[\s:=#(\"']*\Z",
    re.IGNORECASE,
)
_CUE_LENGTH = 20
_BEFORE = re.compile(r"[\w.+-]\Z|[=<>~]=\Z|(?<!/)/\Z")
_WORD = re.compile(r"\w")
_AFTER = re.compile(r"\w|[.-]\w")

HINT = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f]{0,4}:"
"""A pattern that is found in every text with an address, in the syntax of Rust's regex."""


def internet_addresses(text: str) -> Iterator[tuple[int, int]]:
    """The starts and ends of public IP addresses."""
    for match in _QUAD.finditer(text):
        if _stands_alone(text, match) and not _is_version(text, match) and _is_public(match[0]):
            yield match.span()
    for match in _GROUPS.finditer(text):
        start, end = match.span()
        end -= match[0].endswith(":") and not match[0].endswith("::")
        before, after = text[max(start - 1, 0) : start], text[end : end + 1]
        joined = _WORD.match(before) or before == ":" or _WORD.match(after)
        if not joined and _is_public(text[start:end]):
            yield start, end


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Whether it is no part of a longer name or number."""
    start, end = match.span()
    return not _BEFORE.search(text[max(start - 2, 0) : start]) and not _AFTER.match(text, end)


def _is_version(text: str, match: re.Match[str]) -> bool:
    small = all(int(number) < _SMALL for number in match[0].split("."))
    start = match.start()
    return small or bool(_CUE.search(text[max(start - _CUE_LENGTH, 0) : start]))


def _is_public(name: str) -> bool:
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return False
    return found.is_global and not found.is_multicast
