"""The Python interpreter that programs run in, and the system files that it needs."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

NOBODY = 65534
"""The user and group that programs run as if we are root."""

SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64")
LIBRARY_CACHE = "/etc/ld.so.cache"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
OTHER_PACKAGES = "python3*/*-packages"
"""Folders of installed packages below the standard library's."""

_UNUSED = ("*-packages", "config-*", "test", "tests", "idlelib", "ensurepip", "*.opt-?.pyc")


def command(python: str | None = None) -> list[str]:
    """The command of this process's interpreter, or of another, without its site-packages."""
    return [python or os.path.realpath(sys.executable), "-S", "-s", "-P", "-B"]


@cache
def reachable() -> tuple[Path, Path]:
    """An interpreter that any user may start, and the folder of its libraries.

    That is ours, unless other users cannot read its folder, e.g. root's home. Then it is a copy with
    the standard library (65 MB, made in a second), which is removed with this process unless that is
    killed.
    """
    python, libraries = Path(command()[0]), Path(sys.base_prefix, "lib")
    if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in libraries.parents):
        return python, libraries
    place = Path(tempfile.mkdtemp(prefix="engine-python-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return copied(place), place / "lib"


def copied(place: Path) -> Path:
    """A copy of this process's interpreter and standard library that any user may start."""
    place.chmod(0o755)
    standard = Path(os.__file__).parent
    shutil.copytree(
        standard, place / "lib" / standard.name, ignore=shutil.ignore_patterns(*_UNUSED)
    )
    for library in Path(sys.base_prefix, "lib").glob("*.so*"):
        shutil.copy2(library, place / "lib", follow_symlinks=False)
    (place / "bin").mkdir()
    return Path(shutil.copy2(command()[0], place / "bin"))
