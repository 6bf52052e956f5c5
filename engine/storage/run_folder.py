"""A run's folder: its spec, the status of its stages, and a lock for one run at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.files.reading import json_of, read_end, read_regular
from engine.files.regular import check_folder, opened_at_end
from engine.spec.loading import RESOLVED, Loaded, resolved_yaml
from engine.storage.manifest import sealed, unsealed, write_durably
from engine.storage.stage_record import Standing

_STAGE = "stage.json"
_TAIL = 1 << 16
"""Bytes of a log's last event at most."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run, such as ``runs/NAME``."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder against other runs, and checks that no link in it leads out of it.

        The kernel releases the lock if the process dies. The folder itself is locked, since a file in
        it may be removed; also the file ``.lock``, since NFS cannot lock folders. Raises RunError.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, folder)
                lock = stack.enter_context(opened_at_end(self.path / ".lock"))
                if not (_lock(folder, needed=False) and _lock(lock.fileno())):
                    lock.seek(0)
                    process = lock.read(20).decode("ascii", "replace").strip()
                    known = f" (process {process})" if process.isdecimal() else ""
                    raise RunError(
                        f"{self.path}: another run is using this folder{known}",
                        hint="wait for it, stop it, or give this one another name",
                    )
                check_folder(self.path)
                lock.truncate(0)
                lock.write(str(os.getpid()).encode())
            except OSError as error:
                raise RunError(
                    f"{self.path}: {error.strerror or error}",
                    hint="choose another folder with --runs",
                ) from error
            yield

    def describe(self, loaded: Loaded, world_size: int) -> None:
        """Writes spec.yaml, resolved.yaml and manifest.json."""
        write_durably(self.path / "spec.yaml", loaded.text)
        write_durably(self.path / RESOLVED, resolved_yaml(loaded))
        manifest: dict[str, Any] = {
            **versions(loaded),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "seed": loaded.spec.seed,
            "world_size": world_size,
            "given": loaded.given(),
        }
        write_durably(self.path / "manifest.json", json.dumps(manifest, indent=1))

    def standing(self, stage: str) -> Standing | None:
        """The stage's record, None if it was never started. Raises RunError if it is unreadable."""
        try:
            return Standing.read(unsealed(read_regular(self.path / stage / _STAGE)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"{self.path / stage / _STAGE}: cannot be read ({error})",
                hint=f"restart the stage with --rerun {stage}",
            ) from error

    def last_event(self) -> Mapping[str, Any]:
        """The last event of the run's log; empty if there is none. Raises RunError."""
        try:
            *_, last = read_end(self.path / "events.jsonl", _TAIL).split(b"\n")[:-1] or [b"{}"]
            found = json_of(last)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / 'events.jsonl'}: cannot be read ({error})") from error
        return found if isinstance(found, dict) else {}

    def record(self, stage: str, standing: Standing) -> None:
        """Writes the stage's record."""
        data = {name: getattr(standing, name) for name in Standing.__slots__}
        write_durably(self.path / stage / _STAGE, sealed(data))


def versions(loaded: Loaded) -> dict[str, Any]:
    """The versions of the engine, of a spec's plugins, and of packages that matter."""
    return {
        "engine": metadata.version("training-engine"),
        "plugins": {p.name: f"{p.distribution} {p.version}" for p in loaded.plugins.plugins},
        "packages": {name: _version(name) for name in ("torch", "transformers", "tokenizers")},
    }


def fingerprint(manifest: Path) -> str:
    """Short hash of a manifest, and thereby of the files that it lists; empty if there is none."""
    try:
        return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _lock(descriptor: int, *, needed: bool = True) -> bool:
    """Tries to lock without waiting; False if another process holds the lock. If the file system does
    not support the lock, raises OSError, or returns True if it is not ``needed``."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if needed:
            raise
    return True


def _version(name: str) -> str:
    return metadata.version(name)
