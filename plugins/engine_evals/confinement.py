"""What a process loses before its harness begins: its keyring, and in bubblewrap all rights as well.

Runs inside, with the standard library only. The keyring of whoever started the program is left for
an empty one in both tiers, so that nothing would be found there if the filter missed a call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

from engine_evals import harness, seccomp

START = (
    "import sys; sys.path.append(sys.argv[1]); from engine_evals.confinement import main; "
    "sys.path.pop(); main()"
)
"""Python's ``-c`` in bubblewrap's tier; sandboxed processes are known by it."""
FOLDER = "/tmp"

_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING = 1
_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV = 2, 4
_CAPABILITY_VERSION = 0x20080522


def main() -> None:
    """The harness in bubblewrap: with a folder of so many bytes and files, then without rights.

    These are the arguments before its own; no files: as many as there may be.
    """
    size, files = map(int, sys.argv[2:4])
    leave_keyring()
    try:
        if files:
            mount_folder(size, files)
        _drop_capabilities()
        harness.main(lambda *signalled: seccomp.restrict(None))
    except OSError as error:
        sys.exit(str(error))


def leave_keyring() -> None:
    """An empty session keyring, where the kernel has keyrings and the user's quota has one left."""
    if number := _KEYCTL.get(platform.machine()):
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)


def mount_folder(size: int, files: int) -> None:
    """Memory as a folder of so many bytes and files, itself one, in a mount namespace of its own.

    bubblewrap limits bytes only, and a file without any takes a kilobyte of the kernel's memory.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    data = f"size={size},nr_inodes={files},mode=0700".encode()
    where = FOLDER.encode()
    if libc.unshare(_CLONE_NEWNS) or libc.mount(
        b"tmpfs", where, b"tmpfs", _MS_NOSUID | _MS_NODEV, data
    ):
        raise OSError(ctypes.get_errno(), "the number of files cannot be limited")
    os.chdir(FOLDER)


def _drop_capabilities() -> None:
    """All of them, for good: none comes back with another program, either."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
