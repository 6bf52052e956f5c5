"""A limit on the memory and the processes of a program all together, where systemd can set one.

Limits of one process leave out what the kernel keeps for it (page tables, pipes, small files), and
let a program that forks take as much again. A control group counts all of it. systemd makes one
for a command, for a user's as for root's, and removes it with the last process in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

_MANAGER = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
"""Where a user's systemd is reached; programs are not told."""
_READ = 'cd "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)" && cat memory.max pids.max'


def limited(memory: int, processes: int) -> list[str]:
    """The command before another by which that is limited; empty where no limit comes of it.

    ``memory`` is a multiple of the page's size, in bytes. Tried once, since systemd takes limits in
    silence that the kernel, or whoever delegates to the user, does not give.
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
    """The environment that the command needs."""
    return {name: os.environ[name] for name in _MANAGER if name in os.environ}
