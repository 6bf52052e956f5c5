"""A run's folder: what was asked, what it became, how each stage stands, and one run at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.manifest import write_durably
from engine.spec import RESOLVED, Loaded, resolved_yaml

_STAGE = "stage.json"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a stage stands: its identity, ``done`` or not, what it was made from, and what was chosen for
    it by the machine when it began."""

    identity: Mapping[str, Any]
    status: str
    inputs: Mapping[str, str]
    summary: Mapping[str, Any]
    choices: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``runs/NAME``."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else runs in this folder meanwhile. Raises RunError; the kernel frees it on death."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("a+")
        except OSError as error:
            raise RunError(
                f"{self.path}: {error.strerror or error}", mend="choose another folder with --runs"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RunError(
                    f"{self.path}: another run is at work here (process {lock.read().strip()})",
                    mend="wait for it, stop it, or give this one another name",
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def describe(self, loaded: Loaded, world_size: int) -> None:
        """Writes spec.yaml, resolved.yaml and manifest.json."""
        write_durably(self.path / "spec.yaml", loaded.text)
        write_durably(self.path / RESOLVED, resolved_yaml(loaded))
        manifest = {
            "engine": metadata.version("training-engine"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "seed": loaded.spec.seed,
            "world_size": world_size,
            "plugins": {p.name: f"{p.distribution} {p.version}" for p in loaded.plugins.plugins},
            "packages": {name: _version(name) for name in ("torch", "transformers", "tokenizers")},
        }
        write_durably(self.path / "manifest.json", json.dumps(manifest, indent=1))

    def standing(self, stage: str) -> Standing | None:
        """How the stage stands, or None if it was never begun."""
        try:
            data = json.loads((self.path / stage / _STAGE).read_text(encoding="utf-8"))
            return Standing(**{name: data[name] for name in Standing.__slots__ if name in data})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{self.path / stage / _STAGE}: cannot be read ({error})",
                mend=f"start the stage anew with --rerun {stage}",
            ) from error

    def record(self, stage: str, standing: Standing) -> None:
        """Writes down how the stage stands."""
        data = {name: getattr(standing, name) for name in Standing.__slots__}
        write_durably(self.path / stage / _STAGE, json.dumps(data, indent=1))


def fingerprint(manifest: Path) -> str:
    """What a manifest, and so every file that it lists, comes down to."""
    return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]


def _version(name: str) -> str:
    return metadata.version(name)
