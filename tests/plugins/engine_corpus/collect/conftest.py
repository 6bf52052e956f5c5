"""A working directory for files, and what the sources of local documents give of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sources import records_of

from engine import Bad, Text
from engine.testing import StandAloneContext

Collected = Callable[..., list[Any]]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory: a folder in which tests put files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def collected(folder) -> Collected:
    """The records and bad rows of a source of this type with these settings."""

    def collect(kind: str, **settings: Any) -> list[Any]:
        return records_of(StandAloneContext().build("data-source", {"type": kind, **settings}))

    return collect


@pytest.fixture
def outcome(collected) -> Callable[..., str]:
    """Of a source that gives one row: its text, or the reason for which it is bad."""

    def one(kind: str, **settings: Any) -> str:
        (record,) = collected(kind, **settings)
        assert isinstance(record, Text | Bad)
        return record.text if isinstance(record, Text) else record.reason

    return one
