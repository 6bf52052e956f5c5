"""What tests say they cover, gathered where all of them are collected; a plugin of pytest."""

from __future__ import annotations

from typing import Any

import pytest

COVERED = pytest.StashKey[set[str] | None]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker what only this process knows."""
    node.workerinput["whole"] = _whole(node.config)


def _whole(config: pytest.Config) -> bool:
    """Whether all tests were asked for."""
    told = getattr(config, "workerinput", {}).get("whole")
    if told is not None:
        return bool(told)
    return not config.option.keyword and config.args_source is config.ArgsSource.TESTPATHS


@pytest.hookimpl(trylast=True)  # after -m has taken its own away
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Gathers what tests say they cover; None where only a part of the tests was asked for.

    The longest files come first, so that no process has to wait for another's last.
    """
    items.sort(key=lambda item: item.path.parent.name != "specs")
    whole = _whole(config)
    marks = (mark for item in items for mark in item.iter_markers("covers"))
    config.stash[COVERED] = {name for mark in marks for name in mark.args} if whole else None


@pytest.fixture
def covered(pytestconfig: pytest.Config) -> set[str]:
    """Names in the ``covers`` marks of all tests; skips unless all are collected."""
    names = pytestconfig.stash[COVERED]
    if names is None:
        pytest.skip("only where the whole suite is collected")
    return names
