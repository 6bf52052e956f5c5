"""A run's folder: what was asked, what it became, how each stage stands, and one run at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from engine.errors import RunError
from engine.manifest import sealed, unsealed, write_durably
from engine.regular import check_folder, opened_at_end
from engine.spec import RESOLVED, Loaded, resolved_yaml
from engine.standing import Standing

_STAGE = "stage.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """``runs/NAME``."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else runs in this folder meanwhile, and nothing in it leads out of it.

        Raises RunError; the kernel frees the folder on death. Locked is the folder itself, since a
        file in it may be removed; and the file, where folders cannot be locked (NFS).
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
                        f"{self.path}: another run is at work here{known}",
                        mend="wait for it, stop it, or give this one another name",
                    )
                check_folder(self.path)
                lock.truncate(0)
                lock.write(str(os.getpid()).encode())
            except OSError as error:
                raise RunError(
                    f"{self.path}: {error.strerror or error}",
                    mend="choose another folder with --runs",
                ) from error
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
            return Standing.read(unsealed((self.path / stage / _STAGE).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(
                f"{self.path / stage / _STAGE}: cannot be read ({error})",
                mend=f"start the stage anew with --rerun {stage}",
            ) from error

    def record(self, stage: str, standing: Standing) -> None:
        """Writes down how the stage stands."""
        data = {name: getattr(standing, name) for name in Standing.__slots__}
        write_durably(self.path / stage / _STAGE, sealed(data))


def fingerprint(manifest: Path) -> str:
    """What a manifest, and so every file that it lists, comes down to; empty where there is none."""
    try:
        return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _lock(descriptor: int, *, needed: bool = True) -> bool:
    """Whether the lock could be had; where there is no such lock and none is ``needed``, it could."""
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
