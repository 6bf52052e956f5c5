"""Files that a spec names: reads only regular files, and lists those outside the spec's folder."""

from __future__ import annotations

import errno
import glob
import json
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_NAMED = 10
"""Files of a name or glob that are listed one by one; for more, folders are listed with counts."""


def read_regular(path: Path, most: int = 1 << 30) -> bytes:
    """A file's bytes. Raises OSError if it is not a regular file, such as a pipe or a device, which may
    never end, and if it has more than ``most`` bytes."""
    with open_regular(path) as file:
        found = os.fstat(file.fileno())
        content = file.read(min(found.st_size, most) + 1)  # allocates that much memory at once
        if len(content) > found.st_size:  # files in /proc have size 0
            content += file.read(most + 1 - len(content))
    if len(content) > most:
        raise OSError(errno.EFBIG, f"has more than {most:,} bytes", str(path))
    return content


def read_end(path: Path, most: int) -> bytes:
    """The last bytes of a regular file, at most so many. Raises OSError as :func:`read_regular`."""
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most)


def open_regular(path: Path) -> BinaryIO:
    """A regular file, opened for reading. Raises OSError as :func:`read_regular`."""
    file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 - the caller's
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return file


def json_of(text: str | bytes) -> Any:
    """Parses JSON. Raises ValueError, also if it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path) -> Any:
    """Reads and parses a regular file of JSON. Raises OSError and ValueError."""
    return json_of(read_regular(path))


def outside(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Lines that list the files outside ``folder`` that names and globs lead to, links followed: one by
    one, or folder by folder with counts if a glob finds many."""
    home = folder.resolve()
    found = [
        {Path(os.path.realpath(path)) for path in _matches(name, home)} for name in names
    ]  # realpath, as resolve() fails at a link to itself
    away = [{path for path in paths if not path.is_relative_to(home)} for paths in found]
    many = [paths for paths in away if len(paths) > _NAMED]
    yield from map(str, sorted(set().union(*away).difference(*many)))
    yield from dict.fromkeys(line for paths in many for line in _counted(paths))


def _counted(paths: Collection[Path]) -> Iterator[str]:
    counts = Counter(path.parent for path in sorted(paths))
    if len(counts) > _NAMED:
        counts = Counter({Path(os.path.commonpath(counts)): len(paths)})
    for parent, count in counts.items():
        yield f"{parent}: {count:,} files"


def _matches(name: str, home: Path) -> Iterator[Path]:
    """Paths that a name or glob stands for; a folder in ``home`` stands for the links in it, too."""
    name = os.path.expanduser(name)
    try:
        if os.path.exists(name):
            yield Path(name)
            inside = Path(os.path.realpath(name)).is_relative_to(home)
            yield from _links(name) if inside else ()
        elif glob.has_magic(name):
            yield from (p for p in map(Path, glob.iglob(name, recursive=True)) if p.is_file())
    except (OSError, ValueError, RuntimeError):  # reported when the file is read
        return


def _links(folder: str) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        paths = (Path(parent) / name for name in (*folders, *files))
        yield from (path for path in paths if path.is_symlink())


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a file; for a pipe, does not wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)
