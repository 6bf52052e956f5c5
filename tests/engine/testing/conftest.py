"""The guide's plugin with mistakes in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def spoil(guide, install_here) -> Callable[..., None]:
    """Installs the guide's plugin, the first text in its code changed into the second, and so on."""

    def install(*edits: tuple[str, str]) -> None:
        files = {path: text for path, text in guide.items() if path.startswith("engine_example/")}
        for old, new in edits:
            assert any(old in text for text in files.values()), f"the guide has no {old!r}"
            files = {path: text.replace(old, new) for path, text in files.items()}
        install_here(files)

    return install


@pytest.fixture
def refuses(spoil) -> Callable[..., None]:
    """Asserts that the kit finds the guide's component, edited so, to break a contract."""
    from engine.testing import check_component

    def check(kind: str, settings: dict, contract: str, *edits: tuple[str, str]) -> None:
        spoil(*edits)
        with pytest.raises(AssertionError) as told:
            check_component(kind, settings)
        assert contract in str(told.value)

    return check
