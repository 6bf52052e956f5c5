"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine import RunError


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and moves it to ``file`` at the end.

    Raises RunError for any OSError inside; ``file`` is then unchanged, and the temporary file removed.
    """
    partial = file.with_name(f".partial-{file.name}")
    try:
        yield partial
        os.replace(partial, file)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise RunError(f"{file}: cannot be written: {error.strerror or error}") from error
