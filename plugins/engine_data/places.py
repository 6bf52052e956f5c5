"""Files and folders by the names that people give them."""

from __future__ import annotations

import difflib
import glob
import os
import re
from itertools import islice
from pathlib import Path

from engine import RunError

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def expanded(name: str) -> str:
    """The name with ``~`` for a home folder replaced."""
    return os.path.expanduser(name)


def missing_folder(name: str, revision: str | None) -> str | None:
    """What to say of a name that is a missing folder's; None where it is there, or is one on the hub.

    A name that could be either is one on the hub if it has a revision.
    """
    path = Path(expanded(name))
    if path.exists():
        return None
    local = name.startswith((".", "~", "/")) or "\\" in name or not _HUB_ID.fullmatch(name)
    if local or (revision is None and path.parent != Path() and path.parent.is_dir()):
        return f"'{name}' is no folder here; {nearest(path)}"
    return None


def nearest(path: Path) -> str:
    """What there is in the last folder of the path that exists, the most similar names first."""
    missing = path
    while not missing.parent.is_dir():
        missing = missing.parent
    folder = missing.parent
    names = sorted(p.name for p in islice(folder.iterdir(), 1000))
    near = difflib.get_close_matches(missing.name, names, n=1) or names[:3]
    return f"in '{folder.resolve().name}' there is: {', '.join(near) or 'nothing'}"


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
        mend = nearest(Path(pattern))
    return RunError(f"files: no file matches '{pattern}'", mend=mend)
