"""Text of HTML pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

from engine_corpus.collect.contents import UnusableError

_DEEPEST = 512
"""Levels of nested elements, as many as Chromium's parser keeps. The time to find the main content
grows with the number of elements times their depth: 16,000 nested elements take ten seconds."""
_TOO_DEEP = ">".join("*" * (_DEEPEST + 1))
"""A selector of elements that have so many ancestors."""
_REPLACEMENT = "\ufffd"
_REPLACED = 0.01
"""Largest share of characters that may be broken."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page's text, and the address that it names as its own, if any."""

    text: str
    canonical: str | None


def page_of(raw: bytes, *, charset: str | None, main_content: bool, links: bool) -> Page:
    """The text of a page's bytes.

    ``charset``: the encoding that came with the page, e.g. over HTTP. ``main_content``: leave out what
    is not the page's own content; ``links``: keep the targets of links.

    Raises UnusableError for a page without text, nested too deeply, or that is no text.
    """
    html = decoded(raw, charset)
    if not html.strip():
        raise UnusableError("no-text", "there is only white space in it")
    tree = HTMLTree.parse(html)
    if _is_too_deep(tree):
        raise UnusableError("nested-too-deep", f"elements are nested deeper than {_DEEPEST} levels")
    text = extract_plain_text(tree, main_content=main_content, links=links).strip()
    if not text:
        raise UnusableError("no-text", "the page has no text")
    return Page(text, _canonical(tree))


def decoded(raw: bytes, charset: str | None = None) -> str:
    """The text of bytes in the encoding that came with them, that they declare as HTML, or that is
    detected; single broken characters are replaced.

    Raises UnusableError for what is not text.
    """
    for encoding, errors in _attempts(raw, charset):
        try:
            text = raw.decode(encoding, errors)
            break
        except (LookupError, UnicodeError):
            continue
    if "\0" in text:
        raise UnusableError("nul", "a NUL character, which no text has")
    if text.count(_REPLACEMENT) > _REPLACED * len(text):
        raise UnusableError(
            "undecodable", f"not text in {encoding}, nor in an encoding that it declares"
        )
    return text.removeprefix("\ufeff")


def _is_too_deep(tree: HTMLTree) -> bool:
    return bool(tree.document and tree.document.query_selector(_TOO_DEEP))


def _attempts(raw: bytes, charset: str | None) -> Iterator[tuple[str, str]]:
    """Encodings and what to do about errors, the last of which always gives a text."""
    if charset:
        yield map_encoding_to_html5(charset) or "utf-8", "strict"
    yield detect_encoding(raw, from_html_meta=True) or "utf-8", "strict"
    detected = detect_encoding(raw) or "utf-8"
    yield detected, "strict"
    yield detected, "replace"
    yield "utf-8", "replace"


def _canonical(tree: HTMLTree) -> str | None:
    link = tree.head and tree.head.query_selector('link[rel~="canonical"]')
    address = link.getattr("href") if link else None
    return address if address and address.startswith(("http://", "https://")) else None
