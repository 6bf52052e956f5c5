"""A run's folder: what was asked, what it became, how each stage stands, and one run at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from engine.errors import RunError
from engine.manifest import write_durably
from engine.spec import RESOLVED, Loaded, Spec, resolved_yaml

_STAGE = "stage.json"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a stage stands: its key and identity, ``done`` or not, and what it was made from."""

    key: str
    identity: Mapping[str, Any]
    status: str
    inputs: Mapping[str, str]
    summary: Mapping[str, Any]


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
            return Standing(**data)
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


def identity(spec: Spec, stage: str) -> dict[str, Any]:
    """The fields that make a stage what it is, as plain data: runtime fields are left out."""
    body: dict[str, Any] = {"verb": spec.stages[stage].verb, "seed": spec.seed}
    return body | _identity_fields(spec.stages[stage].body)


def keys(spec: Spec) -> dict[str, str]:
    """For each stage the hash of its identity and of its inputs' keys."""
    found: dict[str, str] = {}
    for stage in spec.order:
        inputs = [found[name] for name in spec.dependencies(stage)]
        text = json.dumps([identity(spec, stage), inputs], sort_keys=True)
        found[stage] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """``field: old → new`` for every leaf that differs."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return [] if old == new else [f"{at}: {old} → {new}"]
    found = []
    for name in dict.fromkeys([*old, *new]):
        found += differences(old.get(name), new.get(name), f"{at}.{name}" if at else str(name))
    return found


def fingerprint(manifest: Path) -> str:
    """What a manifest, and so every file that it lists, comes down to."""
    return hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]


def _identity_fields(config: BaseModel) -> dict[str, Any]:
    fields = {}
    for name, info in type(config).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("runtime"):
            continue
        fields[name] = _plain(getattr(config, name))
    return fields


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _identity_fields(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):  # in an order of its own in every process
        return sorted(map(_plain, value), key=repr)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _version(name: str) -> str:
    return metadata.version(name)
