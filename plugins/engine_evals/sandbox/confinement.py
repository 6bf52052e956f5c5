"""Takes the keyring, and in bubblewrap all capabilities, from the child process before it starts.

Runs inside the sandbox, with the standard library only. In both tiers the user's keyring is replaced by
an empty one, so that nothing is found there even if the filter missed a system call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

from engine_evals.sandbox import child_process, seccomp

START = (
    "import sys; sys.path.append(sys.argv[1]); from engine_evals.sandbox.confinement import main; "
    "sys.path.pop(); main()"
)
"""Python's ``-c`` argument in the bubblewrap tier, by which sandboxed processes are recognised."""
FOLDER = "/tmp"

_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING = 1
_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV = 2, 4
_CAPABILITY_VERSION = 0x20080522


def main() -> None:
    """Runs the child process in bubblewrap: mounts its folder, then drops all capabilities.

    The first two arguments are the folder's limits on bytes and files; 0 files means no limit.
    """
    size, files = map(int, sys.argv[2:4])
    leave_keyring()
    try:
        if files:
            mount_folder(size, files)
        _drop_capabilities()
        child_process.main(lambda *signalled: seccomp.restrict(None))
    except OSError as error:
        sys.exit(str(error))


def leave_keyring() -> None:
    """Joins an empty session keyring, if the kernel supports it and the user's quota allows it."""
    if number := _KEYCTL.get(platform.machine()):
        ctypes.CDLL(None).syscall(number, _JOIN_SESSION_KEYRING, None)


def mount_folder(size: int, files: int) -> None:
    """Mounts a tmpfs limited to ``size`` bytes and ``files`` files, in its own mount namespace.

    The folder itself counts as a file. bubblewrap limits only bytes, but even an empty file takes a
    kilobyte of kernel memory.
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
    """Drops all capabilities permanently, so that executing another program does not restore them."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
