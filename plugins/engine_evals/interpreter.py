"""The Python that programs get, and what of the machine it needs to see."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

NOBODY = 65534
"""The user, and the group, that programs run as where we are root."""

SYSTEM_LIBRARIES = ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64")
LIBRARY_CACHE = "/etc/ld.so.cache"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
OTHER_PACKAGES = "python3*/*-packages"
"""Below a folder of libraries: what is installed beside the standard library."""

_UNUSED = ("*-packages", "config-*", "test", "tests", "idlelib", "ensurepip", "*.opt-?.pyc")


def command(python: str | None = None) -> list[str]:
    """The interpreter, ours or another, without its site-packages."""
    return [python or os.path.realpath(sys.executable), "-S", "-s", "-P", "-B"]


@cache
def reachable() -> tuple[Path, Path]:
    """An interpreter that any user may start, and the folder of its libraries.

    That is ours, unless it lies in a folder that is closed to others, e.g. root's home: then a copy
    of it with the standard library (65 MB, in a second), which goes with this process unless that
    is killed.
    """
    python, libraries = Path(command()[0]), Path(sys.base_prefix, "lib")
    if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in libraries.parents):
        return python, libraries
    place = Path(tempfile.mkdtemp(prefix="engine-python-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return copied(place), place / "lib"


def copied(place: Path) -> Path:
    """Our interpreter with its standard library, copied to where any user may start it."""
    place.chmod(0o755)
    standard = Path(os.__file__).parent
    shutil.copytree(
        standard, place / "lib" / standard.name, ignore=shutil.ignore_patterns(*_UNUSED)
    )
    for library in Path(sys.base_prefix, "lib").glob("*.so*"):
        shutil.copy2(library, place / "lib", follow_symlinks=False)
    (place / "bin").mkdir()
    return Path(shutil.copy2(command()[0], place / "bin"))
