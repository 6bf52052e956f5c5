"""Files by the names and globs that people give them."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from engine import RunError, neighbours


def expanded(name: str) -> str:
    """The name with ``~`` for a home folder replaced."""
    return os.path.expanduser(name)


def matches(pattern: str) -> list[Path]:
    """What a glob matches, or the one file or folder of exactly this name. Raises OSError.

    A glob passes over folders that may not be read in silence, so they are opened first.
    """
    if Path(pattern).exists():
        return [Path(pattern)]
    for parent in map(str, Path(pattern).parents):
        for folder in glob.glob(f"{parent}/", recursive=True):
            os.scandir(folder).close()
        if not glob.has_magic(parent):
            break
    return [Path(path) for path in glob.glob(pattern, recursive=True)]


def each_once(paths: list[Path]) -> list[Path]:
    """The paths by name, of each file the first; a link only where its file is not among them itself.

    Raises OSError.
    """
    found: dict[object, Path] = {}
    for path in sorted(paths, key=Path.is_symlink):
        try:
            status = path.stat()
        except FileNotFoundError:  # a link to a file that is gone: reading tells of it
            found.setdefault(path, path)
        else:
            found.setdefault((status.st_dev, status.st_ino), path)
    return sorted(found.values())


def unmatched(pattern: str) -> RunError:
    """The error for a pattern that matches no file."""
    if Path(pattern).is_dir():
        mend = f"it is a folder: write '{pattern.rstrip('/')}/**/*', or a narrower glob"
    elif Path(pattern).exists():
        mend = "it is no regular file"
    else:
        mend = neighbours(Path(pattern))
    return RunError(f"files: no file matches '{pattern}'", mend=mend)
