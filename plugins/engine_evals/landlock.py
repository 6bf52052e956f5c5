"""The second tier: Landlock for files, seccomp for all else, where namespaces cannot be had.

Landlock (Linux 6.2 and later, for its third ABI) keeps a process to the files that it is granted:
Python's and the system's libraries to read, and one folder to write plain files in. It has no
quota, so whoever started the program watches the folder's size; and as a file that is removed but
open would not be seen, none can be removed. Landlock's own rules for networks and signals are not
used: under :mod:`engine_evals.seccomp` there are neither sockets nor other processes.

What this tier lacks beside bubblewrap: a program can learn whether a path exists, and how long a
file is; and it is one process of one thread, as without namespaces no limit on those would be its
own. See landlock(7).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine_evals import confinement, harness, seccomp
from engine_evals.interpreter import (
    DEVICES,
    LIBRARY_CACHE,
    NOBODY,
    OTHER_PACKAGES,
    SYSTEM_LIBRARIES,
    command,
    reachable,
)

START = (
    "import sys; sys.path.append(sys.argv[1]); from engine_evals.landlock import main; "
    "sys.path.pop(); main()"
)
"""Python's ``-c``; sandboxed processes are known by it."""

OLDEST = 3
"""The first ABI by which a file that may only be read cannot be emptied, either."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on all machines
_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

_WRITE_FILE, _READ_FILE, _READ_DIR, _MAKE_REG, _TRUNCATE = (1 << bit for bit in (1, 2, 3, 8, 14))
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
READ = _READ_FILE | _READ_DIR
WORK = READ | _WRITE_FILE | _MAKE_REG | _TRUNCATE


def confined() -> list[str]:
    """The command before the harness's arguments."""
    python, libraries = reachable()
    granted = {str(python): READ, LIBRARY_CACHE: READ}
    granted |= dict.fromkeys(DEVICES, READ) | {os.devnull: READ | _WRITE_FILE}
    for folder in (*map(Path, SYSTEM_LIBRARIES), libraries):
        granted |= _without_packages(folder.resolve())
    plugins = str(Path(__file__).parents[1])
    return [*command(str(python)), "-c", START, plugins, json.dumps(granted)]


def _without_packages(folder: Path) -> Iterator[tuple[str, int]]:
    """Rules only ever grant, so what lies beside the packages is granted piece by piece."""
    hosts = {packages.parent for packages in folder.glob(OTHER_PACKAGES)}
    if not hosts:
        yield str(folder), READ
        return
    for host in (folder, *sorted(hosts)):
        yield str(host), _READ_DIR
        for piece in sorted(host.iterdir()):
            packages = piece.name.endswith("-packages")
            if not (piece in hosts or packages or piece.is_symlink()):
                yield str(piece), READ


def main() -> None:
    """The harness, confined; the rules are JSON in the argument before its own."""
    granted = json.loads(sys.argv[2])
    confinement.leave_keyring()
    try:
        if os.geteuid() == 0:
            os.chown(".", NOBODY, NOBODY)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        restrict({**granted, ".": WORK})
        harness.main(_restrict_further)
    except OSError as error:
        sys.exit(str(error))


def _restrict_further(*signalled: int) -> None:
    """After the harness has made its two processes; neither can make more, nor outlive its parent."""
    _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    seccomp.restrict(signalled)


def abi() -> int:
    """The version of Landlock's interface that the kernel has; 0 where it has none or it is off."""
    return max(0, _syscall(_CREATE_RULESET, None, 0, _VERSION))


def restrict(granted: Mapping[str, int]) -> None:
    """Leaves this thread, and its children, the given rights below the given paths, for good.

    Paths that do not exist grant nothing. Raises OSError where the kernel cannot do it.
    """
    version = abi()
    if version < OLDEST:
        has = (
            f"the kernel has version {version}" if version else "the kernel has none, or it is off"
        )
        raise OSError(errno.ENOSYS, f"Landlock's ABI {OLDEST} (Linux 6.2) is needed; {has}")
    handled = ctypes.c_uint64((1 << (16 if version >= 5 else 15)) - 1)  # all rights there are
    rules = _checked(_syscall(_CREATE_RULESET, ctypes.byref(handled), 8, 0))
    for path, rights in granted.items():
        try:
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = rights.to_bytes(8, sys.byteorder) + beneath.to_bytes(4, sys.byteorder)
        _checked(_syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0))
        os.close(beneath)
    _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(_syscall(_RESTRICT_SELF, rules, 0))
    os.close(rules)


def _syscall(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
