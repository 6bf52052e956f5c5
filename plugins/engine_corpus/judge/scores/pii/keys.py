"""Keys and secrets.

- Keys of services in their published forms, such as ``AKIA…``, ``ghp_…``, ``sk_live_…``; JSON web
  tokens (RFC 7519).
- Private keys between the lines of RFC 7468 or OpenPGP; the line alone is none.
- Names and passwords in URLs, unless the password is a placeholder.
- Values of settings such as ``api_key = …`` that look random: checksums and hashes have other names.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

_W = "[A-Za-z0-9_-]"
_SERVICES = (
    ("AKIA", "[A-Z0-9]{16}"),  # Amazon Web Services
    ("ASIA", "[A-Z0-9]{16}"),
    ("AIza", f"{_W}{{35}}"),  # Google
    ("ghp_", "[A-Za-z0-9]{36}"),  # GitHub
    ("gho_", "[A-Za-z0-9]{36}"),
    ("ghu_", "[A-Za-z0-9]{36}"),
    ("ghs_", "[A-Za-z0-9]{36}"),
    ("ghr_", "[A-Za-z0-9]{36,76}"),
    ("github_pat_", "[A-Za-z0-9_]{82}"),
    ("glpat-", f"{_W}{{20,64}}+"),  # GitLab
    ("hf_", "[A-Za-z]{34}"),  # Hugging Face
    ("npm_", "[A-Za-z0-9]{36}"),
    ("pypi-AgE", f"{_W}{{80,300}}+"),
    ("sk-ant-", f"{_W}{{40,200}}+"),  # Anthropic
    ("sk-proj-", f"{_W}{{40,200}}+"),  # OpenAI
    ("sk-", "[A-Za-z0-9]{40,64}+"),
    ("sk_live_", "[A-Za-z0-9]{24,128}+"),  # Stripe
    ("sk_test_", "[A-Za-z0-9]{24,128}+"),
    ("rk_live_", "[A-Za-z0-9]{24,128}+"),
    ("SG.", f"{_W}{{22}}\\.{_W}{{43}}"),  # SendGrid
    ("xoxb-", "[0-9A-Za-z-]{20,200}+"),  # Slack
    ("xoxp-", "[0-9A-Za-z-]{20,200}+"),
    ("xoxa-", "[0-9A-Za-z-]{20,200}+"),
    ("eyJ", rf"{_W}{{8,}}+\.eyJ{_W}{{8,}}+\.{_W}{{20,}}+"),  # JSON web token
)
# What stands before is looked at after the prefix, so that a search begins with a constant.
_FORMS = [
    (prefix, re.compile(rf"{re.escape(prefix)}(?<!{_W}{re.escape(prefix)}){rest}(?!{_W})"))
    for prefix, rest in _SERVICES
]
_LINE = re.compile(r"-----(BEGIN|END) (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_CONTENT = re.compile(r"[A-Za-z0-9+/]{16,}")
_CUT_OFF = re.compile(r"(?:\s{1,4}[A-Za-z0-9+/=]{16,}+)+")
_IN_URL = re.compile(r"([^\s/:@\"'<>${}*\[\]]{1,64}):([^\s/:@\"'<>${}*\[\]]{1,128})@")
_PLACEHOLDERS = frozenset(
    "%s changeme mypassword pass passwd password pw pwd redacted secret token".split()
)
_NAMES = ("key", "KEY", "Key", "token", "TOKEN", "Token", "secret", "SECRET", "Secret", "password")
_KEY_NAME = re.compile(
    r"(?:api|access|secret|private|auth|account|encryption|signing|service|client)[_ -]?\Z",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"[\"']?\s{0,3}(?::=|=>|[:=])\s{0,3}[\"']?(?P<value>[A-Za-z0-9_+/=-]{16,128})(?![\w+/=(\[.-])"
)
_BITS = 3.5
"""Entropy per character that a random value has at least: of 20 random letters and digits about 4,
of words joined by underscores about 3.3."""

HINT = (
    "|".join(prefix.replace(".", r"\.") for prefix, _ in _SERVICES)
    + r"|PRIVATE KEY|://[^\s/:@]{1,64}:[^\s/@]{1,128}@"
    r"|(?:[Kk]ey|KEY|[Tt]oken|TOKEN|[Ss]ecret|SECRET|password)[\"']?\s{0,3}(?::=|=>|[:=])\s{0,3}[\"']?\w"
)
"""A pattern that is found in every text with a key, in the syntax of Rust's regex."""


def keys(text: str) -> Iterator[tuple[int, int]]:
    """The starts and ends of keys and secrets."""
    for prefix, form in _FORMS:
        if prefix in text:
            for match in form.finditer(text):
                yield match.span()
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)
    yield from _passwords_in_urls(text)
    yield from _settings(text)


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
    start, begun = -1, 0
    for line in _LINE.finditer(text):
        if line[1] == "BEGIN":
            if start >= 0:
                yield from _cut_off(text, start, begun)
            start, begun = line.span()
        elif start >= 0:
            if _CONTENT.search(text, begun, line.start()):
                yield start, line.end()
            start = -1
    if start >= 0:
        yield from _cut_off(text, start, begun)


def _cut_off(text: str, start: int, begun: int) -> Iterator[tuple[int, int]]:
    """A private key without its last line."""
    if rest := _CUT_OFF.match(text, begun):
        yield start, rest.end()


def _passwords_in_urls(text: str) -> Iterator[tuple[int, int]]:
    at = text.find("://")
    while at >= 0:
        found = _IN_URL.match(text, at + 3)
        if found and found[2] != found[1] and found[2].lower() not in _PLACEHOLDERS:
            yield found.start(), found.end() - 1
        at = text.find("://", at + 3)


def _settings(text: str) -> Iterator[tuple[int, int]]:
    for name in _NAMES:
        at = text.find(name)
        while at >= 0:
            end = at + len(name)
            found = _VALUE.match(text, end)
            named = name.lower() != "key" or _KEY_NAME.search(text[max(at - 12, 0) : at])
            if found and named and _is_random(found["value"]):
                yield found.span("value")
            at = text.find(name, end)


def _is_random(value: str) -> bool:
    classes = (str.isupper, str.islower, str.isdigit)
    upper, lower, digits = (sum(map(one, value)) for one in classes)
    if digits < 2 or not (upper or lower):
        return False
    mixed = bool(upper and lower) or len(value) >= 32  # such as 32 hexadecimal digits
    count = Counter(value)
    bits = -sum(n / len(value) * math.log2(n / len(value)) for n in count.values())
    return mixed and bits >= _BITS
