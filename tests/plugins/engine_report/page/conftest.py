"""A browser for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.browser import Browser, browser, chromium
from support.packages import lacks


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    """Chromium with an empty page; skips where there is none."""
    program = chromium()
    if program is None:
        lacks("chromium")
    with browser(program) as started:
        yield started
