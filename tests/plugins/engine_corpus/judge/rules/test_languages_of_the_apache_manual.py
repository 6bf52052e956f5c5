"""The languages of the manual of Apache's HTTP server, a folder for each language."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_corpus.judge.rules.language import detected

MANUAL = Path(os.environ.get("ENGINE_APACHE_MANUAL") or "/usr/share/doc/apache2-doc/manual")
"""As Debian's package ``apache2-doc`` has it."""
FOLDERS = "da de en es fr ja ko pt-br ru tr zh-cn".split()
LEFT_OUT = re.compile(r"<(script|style|pre|code|a)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.DOTALL)


def _pages() -> Iterator[tuple[str, str]]:
    """Language and text of each page, but for links and code. A page that is not translated stands in
    several folders, with the language that it names itself."""
    seen = set()
    for folder in FOLDERS:
        for file in sorted((MANUAL / folder).rglob("*.html")):
            data = file.read_bytes()
            if data in seen:
                continue
            seen.add(data)
            charset = re.search(rb"charset=([\w-]+)", data)
            page = data.decode(charset[1].decode() if charset else "utf-8", errors="replace")
            language = re.search(r'<html[^>]*?\slang="([a-z]+)', page)
            if language:
                body = page[page.find("<body") :]
                yield language[1], html.unescape(LEFT_OUT.sub(" ", body))


def test_languages_are_right():
    """Of at least 97 % of the pages: some index pages consist of English directives."""
    if not MANUAL.is_dir():
        pytest.skip(f"no manual: {MANUAL} (or set ENGINE_APACHE_MANUAL)")
    found = [(language, detected(text)[0]) for language, text in _pages()]
    assert len(found) > 500
    right = sum(language == code for language, code in found)
    assert right / len(found) >= 0.97, f"{right} of {len(found)}"
