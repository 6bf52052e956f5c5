"""The guide's plugin with mistakes in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest


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
