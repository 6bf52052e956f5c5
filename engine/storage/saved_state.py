"""Reads and validates the plain (JSON) state of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import RunError


def read_state(file: Path) -> dict[str, Any]:
    """Reads a checkpoint's plain state. Raises RunError for an unreadable file."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _refused(file, error) from error
    return state


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Turns errors of the block, which restores a checkpoint's state, into RunError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _refused(folder / "state.json", error) from error


def _refused(file: Path, error: Exception) -> RunError:
    return RunError(
        f"{file}: is not a state of this stage ({type(error).__name__}: {error})",
        hint=f"remove {file.parent} and run again: the stage resumes from what was saved before",
    )
