"""Limits a program's total memory and number of processes by a control group, where systemd can.

Limits of a single process leave out the kernel's memory for it (page tables, pipes, small files), and
each forked process gets the same again. A control group counts all of it. systemd creates one for a
command, for users as for root, and removes it with its last process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

_MANAGER = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""Variables by which a user's systemd is reached; programs do not get them."""
_READ = 'cd "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)" && cat memory.max pids.max'


def limited(memory: int, processes: int) -> list[str]:
    """The prefix of a command that limits what it runs; empty where limits do not work.

    ``memory`` is in bytes, a multiple of the page size. Tested once, since systemd silently accepts
    limits that the kernel or the user's delegation does not enforce.
    """
    systemd, env = shutil.which("systemd-run"), shutil.which("env")
    if not systemd or not env:
        return []
    limits = (f"MemoryMax={memory}", "MemorySwapMax=0", f"TasksMax={processes}")
    command = [systemd, "--scope", "--quiet", "--collect"]
    command += ["--user"] * (os.geteuid() != 0)
    command += [f"--property={limit}" for limit in limits]
    command += ["--", env, *(f"--unset={name}" for name in _MANAGER)]
    try:
        told = subprocess.run(
            [*command, "sh", "-c", _READ],
            env={**manager(), "PATH": os.defpath},
            capture_output=True, stdin=subprocess.DEVNULL, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return command if told.stdout.split() == [str(memory), str(processes)] else []


def manager() -> Mapping[str, str]:
    """The environment variables by which the command reaches systemd."""
    return {name: os.environ[name] for name in _MANAGER if name in os.environ}
