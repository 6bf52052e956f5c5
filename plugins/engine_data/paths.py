"""Finds the files that names and globs in a spec stand for."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from engine import RunError, neighbours


def expanded(name: str) -> str:
    """The name with a leading ``~`` replaced by the home folder."""
    return os.path.expanduser(name)


def matches(pattern: str) -> list[Path]:
    """The files and folders that a glob matches, or the one of exactly this name. Raises OSError.

    A glob silently skips unreadable folders, so folders are opened first.
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
    """The paths sorted by name, each file once, preferably not by a link.

    Raises OSError.
    """
    found: dict[object, Path] = {}
    for path in sorted(paths, key=Path.is_symlink):
        try:
            status = path.stat()
        except FileNotFoundError:  # a broken link, which reading reports
            found.setdefault(path, path)
        else:
            found.setdefault((status.st_dev, status.st_ino), path)
    return sorted(found.values())


def unmatched(pattern: str) -> RunError:
    """The error for a pattern that matches no file."""
    if Path(pattern).is_dir():
        hint = f"it is a folder: write '{pattern.rstrip('/')}/**/*', or a narrower glob"
    elif Path(pattern).exists():
        hint = "it is not a regular file"
    else:
        hint = neighbours(Path(pattern))
    return RunError(f"files: no file matches '{pattern}'", hint=hint)
