"""The second tier, without namespaces: Landlock restricts files, seccomp everything else.

Landlock (third ABI, Linux 6.2 and later) restricts a process to granted files: Python's and the
system's libraries to read, and one folder to write plain files in. It has no quota, so the parent
watches the folder's size; files cannot be removed, as a removed but open file would not be counted.
Landlock's rules for networks and signals are not needed: :mod:`engine_evals.sandbox.seccomp` allows
neither sockets nor other processes.

Compared with bubblewrap, a program can learn what stat(2) and readlink(2) say of any path; and it is
limited to one process with one thread, as limits on them apply per user without namespaces. See
landlock(7).
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

from engine_evals.sandbox import child_process, confinement, seccomp
from engine_evals.sandbox.interpreter import (
    DEVICES,
    LIBRARY_CACHE,
    NOBODY,
    OTHER_PACKAGES,
    SYSTEM_LIBRARIES,
    command,
    reachable,
)

START = (
    "import sys; sys.path.append(sys.argv[1]); from engine_evals.sandbox.landlock import main; "
    "sys.path.pop(); main()"
)
"""Python's ``-c`` argument, by which sandboxed processes are recognised."""

OLDEST = 3
"""The first ABI that also protects read-only files from truncation."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on all machines
_VERSION, _PATH_BENEATH = 1, 1
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

_WRITE_FILE, _READ_FILE, _READ_DIR, _MAKE_REG, _TRUNCATE = (1 << bit for bit in (1, 2, 3, 8, 14))
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
READ = _READ_FILE | _READ_DIR
WORK = READ | _WRITE_FILE | _MAKE_REG | _TRUNCATE


def confined() -> list[str]:
    """The command before the child process's arguments."""
    python, libraries = reachable()
    granted = {str(python): READ, LIBRARY_CACHE: READ}
    granted |= dict.fromkeys(DEVICES, READ) | {os.devnull: READ | _WRITE_FILE}
    for folder in (*map(Path, SYSTEM_LIBRARIES), libraries):
        granted |= _without_packages(folder.resolve())
    plugins = str(Path(__file__).parents[2])
    return [*command(str(python)), "-c", START, plugins, json.dumps(granted)]


def _without_packages(folder: Path) -> Iterator[tuple[str, int]]:
    """Rules for a folder except installed packages: rules only grant, so one for each other entry."""
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
    """Runs the child process, confined; the first argument holds the rules as JSON."""
    granted = json.loads(sys.argv[2])
    confinement.leave_keyring()
    try:
        if os.geteuid() == 0:
            os.chown(".", NOBODY, NOBODY)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        restrict({**granted, ".": WORK})
        child_process.main(_restrict_further)
    except OSError as error:
        sys.exit(str(error))


def _restrict_further(*signalled: int) -> None:
    """Confines each of the two processes: it cannot start another, or outlive its parent."""
    _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    seccomp.restrict(signalled)


def abi() -> int:
    """The kernel's Landlock ABI version; 0 if it has none or it is off."""
    return max(0, _syscall(_CREATE_RULESET, None, 0, _VERSION))


def restrict(granted: Mapping[str, int]) -> None:
    """Permanently restricts this thread and its children to the given rights below the given paths.

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
