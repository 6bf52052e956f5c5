"""What the text of HTML pages takes, beside trafilatura: CPU seconds of the same pages, by turns.

Pages are those of a folder that ``ENGINE_HTML_PAGES`` names, such as Debian's ``apache2-doc`` unpacked;
without it, the standard library's documentation strings as pages.
"""

from __future__ import annotations

import html
import os
import pydoc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from engine_corpus.collect.pages import page_of

_ROUNDS = 5
_MB = 10**6
_SIZE = 2 * _MB
"""Bytes of pages: trafilatura takes seconds for them."""


def _library_pages() -> list[bytes]:
    """Pages of modules, as pydoc writes them, and of topics."""
    names = (
        "argparse asyncio collections csv datetime decimal email json logging os pathlib re".split()
    )
    modules = [
        pydoc.HTMLDoc().page(name, pydoc.HTMLDoc().document(pydoc.locate(name))) for name in names
    ]
    shown = (
        f"<html><body><nav><a href='/'>Topics</a></nav><main><h1>{name}</h1>"
        + "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n\n"))
        + "</main></body></html>"
        for name, text in sorted(topics.items())
    )
    return [page.encode() for page in (*modules, *shown)]


def _pages() -> list[bytes]:
    folder = os.environ.get("ENGINE_HTML_PAGES")
    if not folder:
        return _library_pages()
    files = sorted(Path(folder).rglob("*.html"))
    step = max(1, sum(file.stat().st_size for file in files) // _SIZE)
    return [file.read_bytes() for file in files[::step]]


def _seconds(function: Callable[[bytes], object], pages: Sequence[bytes]) -> float:
    started = time.process_time()
    for page in pages:
        function(page)
    return time.process_time() - started


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("main_content", [True, False])
def test_text_of_pages_takes_a_twelfth_of_trafilatura(ratio, main_content):
    """With the main content alone, as trafilatura gives it, and with whole pages."""
    trafilatura = pytest.importorskip("trafilatura")
    pages = _pages()
    size = sum(map(len, pages))

    def ours(page: bytes) -> object:
        return page_of(page, charset=None, main_content=main_content, links=False)

    for function in (ours, trafilatura.extract):
        function(pages[0])
    pairs = [(_seconds(trafilatura.extract, pages), _seconds(ours, pages)) for _ in range(_ROUNDS)]
    theirs, taken = zip(*pairs, strict=True)
    faster = ratio(theirs, taken)
    print(
        f"\n{len(pages)} pages, {size / _MB:.1f} MB, main content {main_content}: "
        f"{size / _MB / min(taken):.1f} MB/s, trafilatura {size / _MB / min(theirs):.2f} MB/s, "
        f"{faster} faster"
    )
    assert faster.low >= 12
