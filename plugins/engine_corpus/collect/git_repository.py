"""Reads a local git repository by the command ``git``.

Only plumbing commands run, which read objects: no hook, filter, pager or other program that the
repository's configuration names takes part, and nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine import RunError

_OPTIONS = ("--no-pager", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_KEPT = ("PATH", "HOME", "XDG_CONFIG_HOME")
"""Variables that git gets: those that tell where another repository is must not reach it."""
_COMMIT = "^{commit}"
_MISSING = -1
"""The size of a file whose content the repository does not have, or has damaged."""


@dataclass(frozen=True, slots=True)
class GitFile:
    """A regular file at a commit; ``blob``: the name of its content; ``size`` in bytes."""

    path: str
    blob: str
    size: int


class GitRepository:
    """A repository in a folder, bare or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def commit(self, revision: str) -> str:
        """The full hash of the commit. Raises RunError for no repository, and no such revision."""
        found = self._run("rev-parse", "--verify", "--quiet", f"{revision}{_COMMIT}")
        return found.decode().strip()

    def files(self, commit: str) -> list[GitFile]:
        """The regular files at a commit, in git's order; links and submodules are left out."""
        files = []
        for line in self._run("ls-tree", "-r", "-z", "--long", "--full-tree", commit).split(b"\0"):
            known, tab, path = line.partition(b"\t")
            if tab and known.startswith(b"100"):  # the mode of a regular file
                _, _, blob, size = known.split()
                length = int(size) if size.isdigit() else _MISSING
                files.append(GitFile(os.fsdecode(path), blob.decode(), length))
        return files

    def contents(self, files: Iterable[GitFile]) -> Iterator[bytes]:
        """The content of each file. Raises RunError for one that is missing or damaged."""
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                self._command("cat-file", "--batch"),
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                for file in files:
                    content = _content(process.stdin, process.stdout, file)
                    if content is None:
                        process.stdin.close()  # then it ends, if it has not yet
                        process.wait()
                        errors.seek(0)
                        raise self._damaged(file, errors.read())
                    yield content
            finally:
                process.kill()

    def _run(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(
                self._command(*arguments), env=self._environment, capture_output=True, check=False
            )
        except FileNotFoundError:
            raise RunError("git: there is no command `git`", hint="install git") from None
        if done.returncode:
            raise self._refused(arguments, done.stderr.decode(errors="replace"))
        return done.stdout

    def _command(self, *arguments: str) -> Sequence[str]:
        return ["git", *_OPTIONS, "-C", os.path.abspath(self._folder), *arguments]

    @property
    def _environment(self) -> Mapping[str, str]:
        return {name: os.environ[name] for name in _KEPT if name in os.environ} | {
            "GIT_ALLOW_PROTOCOL": "none",  # what a partial clone lacks is not fetched
            "GIT_CEILING_DIRECTORIES": os.path.dirname(os.path.abspath(self._folder)),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }

    def _refused(self, arguments: Sequence[str], told: str) -> RunError:
        folder = os.path.abspath(self._folder)
        if "dubious ownership" in told:
            return RunError(
                f"git: '{folder}' belongs to another user, so git does not read it",
                hint=f"if you trust it: git config --global --add safe.directory '{folder}'",
            )
        if "not a git repository" in told:
            return RunError(
                f"git: '{folder}' is no git repository",
                hint="name the folder that `git clone` or `git init` made",
            )
        if arguments[0] == "rev-parse" and not told.strip():
            revision = arguments[-1].removesuffix(_COMMIT)
            return RunError(
                f"git: '{folder}' has no commit '{revision}'",
                hint=f"list what there is: git -C '{folder}' log --oneline --all",
            )
        return RunError(f"git: '{folder}' cannot be read: {' '.join(told.split())}")

    def _damaged(self, file: GitFile, told: bytes) -> RunError:
        folder = os.path.abspath(self._folder)
        message = " ".join(told.decode(errors="replace").split()) or "the object is missing"
        return RunError(
            f"git: the content of '{file.path}' in '{folder}' cannot be read: {message}",
            hint=f"see what else is missing or damaged: git -C '{folder}' fsck",
        )


def _content(requests: IO[bytes], answers: IO[bytes], file: GitFile) -> bytes | None:
    """What ``git cat-file --batch`` gives of a file; None if it cannot."""
    try:
        os.write(requests.fileno(), f"{file.blob}\n".encode())
    except BrokenPipeError:
        return None
    if not answers.readline().endswith(f" blob {file.size}\n".encode()):
        return None
    content = answers.read(file.size + 1)
    return content[:-1] if len(content) == file.size + 1 else None
