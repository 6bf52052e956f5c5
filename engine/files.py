"""Files that a spec names: only regular ones are read, and those outside its folder are told."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

_NAMED = 10
"""Files that are told one by one; of more, only the folders and how many are in each."""


def read_regular(path: Path, most: int = 1 << 30) -> bytes:
    """A file's bytes. Raises OSError for what is no regular file, such as a pipe or a device, of which
    nobody knows the end, and for more than ``most`` bytes."""
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"has more than {most:,} bytes", str(path))
    return content


def outside(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """What the names and globs lead to outside of a folder, links followed, as lines to tell."""
    home = folder.resolve()
    found = {path.resolve() for name in names for path in _matches(name)}
    away = sorted(path for path in found if not path.is_relative_to(home))
    if len(away) <= _NAMED:
        yield from map(str, away)
        return
    counts = Counter(path.parent for path in away)
    if len(counts) > _NAMED:
        counts = Counter({Path(os.path.commonpath(counts)): len(away)})
    for parent, count in counts.items():
        yield f"{parent}: {count:,} files"


def _matches(name: str) -> Iterator[Path]:
    """Of a glob without ``**`` and of a name, also what is hidden or a folder."""
    name = os.path.expanduser(name)
    try:
        if os.path.exists(name):
            yield Path(name)
        elif glob.has_magic(name):
            yield from (p for p in map(Path, glob.iglob(name, recursive=True)) if p.is_file())
    except (OSError, ValueError):  # told where it is read
        return


def _open_at_once(path: str, flags: int) -> int:
    """Opening a pipe would wait for who writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)
