"""Finds the files that names and globs in a spec stand for."""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from engine.errors import RunError


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


def version_of(paths: Iterable[Path]) -> str:
    """A hash of names, sizes and times of change of files, and of all files in folders."""
    found = hashlib.blake2b(digest_size=16)
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            known = file.stat() if file.exists() else None
            told = (file.as_posix(), known and (known.st_size, known.st_mtime_ns))
            found.update(repr(told).encode(errors="surrogatepass"))
    return found.hexdigest()


def unmatched(pattern: str) -> RunError:
    """The error for a pattern that matches no regular file."""
    if Path(pattern).is_dir():
        hint = f"it is a folder: write '{pattern.rstrip('/')}/**/*', or a narrower glob"
    elif Path(pattern).exists():
        hint = "it is not a regular file"
    else:
        hint = neighbours(Path(pattern))
    return RunError(f"files: no file matches '{pattern}'", hint=hint)


def neighbours(path: Path) -> str:
    """Describes the deepest existing folder of the path: the most similar name in it, or some names."""
    missing = path
    while not os.path.isdir(missing.parent):
        missing = missing.parent
    folder = missing.parent
    try:
        names = sorted(p.name for p in islice(folder.iterdir(), 1000))
    except OSError as error:
        return f"'{folder}' cannot be read: {error.strerror or error}"
    near = difflib.get_close_matches(missing.name, names, n=1) or names[:3]
    return f"in '{folder.resolve().name}' there is: {', '.join(near) or 'nothing'}"
