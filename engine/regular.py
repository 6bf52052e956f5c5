"""Regular files and folders only: what was planted in a run's folder is neither followed nor filled.

A link there may lead to any file of the user's, and a pipe or a device ends never.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

from engine.errors import RunError

_OURS = 3
"""How deep in a run's folder we write, as in STAGE/rollouts/FILE. Deeper there is what a manifest
lists, without links, and what a tracker makes anew for each of its runs, with links to its logs."""


def check_folder(folder: Path) -> None:
    """Raises RunError for what is neither file nor folder in a run's folder, and for a link that leads
    up or out of where it stands: to a folder, or to a file where we write."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                deep = len(path.relative_to(folder).parts) > _OURS and not path.is_dir()
                if not deep and not path.resolve().is_relative_to(Path(place).resolve()):
                    raise RunError(
                        f"{path}: is a link that leads elsewhere, and none in a run's folder is "
                        "followed",
                        mend="remove it, or move here what it leads to",
                    )
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise RunError(f"{path}: is neither a file nor a folder", mend="remove it")


def opened_at_end(path: Path) -> IO[bytes]:
    """A file, opened for reading and for writing at its end, unbuffered; made where it is missing.

    Raises RunError where it is no regular file, or has other names, whose content would change too.
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
            path, "has other names" if stat.S_ISREG(found.st_mode) else "is no regular file"
        )
    return file


def _refused(path: Path, why: str) -> RunError:
    return RunError(f"{path}: {why}, so that nothing is written to it", mend="remove it")
