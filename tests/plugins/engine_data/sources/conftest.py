"""A working directory for files."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def notes(tmp_path, monkeypatch) -> Path:
    """The working directory: a folder in which tests put files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
