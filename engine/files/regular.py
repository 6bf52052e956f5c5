"""Checks that a run's folder has only regular files and folders.

A link planted there could lead to any file of the user's, and a pipe or a device may never end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from engine.errors import RunError

_OURS = 3
"""Depth in a run's folder that the engine writes to, as in STAGE/rollouts/FILE. Deeper are only files
that a manifest lists, without links, and files that a tracker creates for each run, with links to its
logs."""


def check_folder(folder: Path) -> None:
    """Raises RunError for anything in a run's folder that is neither file nor folder, and for a link
    out of its own folder: to a folder, or, at the depth that the engine writes to, to a file."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                deep = len(path.relative_to(folder).parts) > _OURS and not path.is_dir()
                if not deep and not _target(path).is_relative_to(_target(parent)):
                    raise RunError(
                        f"{path}: is a link out of its folder, which is not followed in a run's folder",
                        hint="remove it, or move its target here",
                    )
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise RunError(f"{path}: is neither a file nor a folder", hint="remove it")


def _target(path: str | Path) -> Path:
    """Where a path leads, links followed; of a link to itself, the link."""
    return Path(os.path.realpath(path))


def opened_at_end(path: Path) -> IO[bytes]:
    """Opens a file unbuffered for reading and appending; creates it if it is missing.

    Raises RunError if it is not a regular file, or has other hard links, which would change, too.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.fdopen(os.open(path, flags, 0o666), "a+b", buffering=0)
    except OSError as error:
        if not path.is_symlink():
            raise
        raise _refused(path, "is a link") from error
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        file.close()
        raise _refused(
            path, "has other hard links" if stat.S_ISREG(found.st_mode) else "is not a regular file"
        )
    return file


def _refused(path: Path, why: str) -> RunError:
    return RunError(f"{path}: {why}, so nothing is written to it", hint="remove it")
