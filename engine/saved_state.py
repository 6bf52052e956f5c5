"""The plain state in a checkpoint: read, and taken up, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import RunError


def read_state(file: Path) -> dict[str, Any]:
    """A checkpoint's plain state. Raises RunError for what is none."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _refused(file, error) from error
    return state


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Raises RunError where a checkpoint's state has not what is looked for in it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _refused(folder / "state.json", error) from error


def _refused(file: Path, error: Exception) -> RunError:
    return RunError(
        f"{file}: is no state of this stage ({type(error).__name__}: {error})",
        mend=f"remove {file.parent} and run again: it goes on from what was saved before",
    )
