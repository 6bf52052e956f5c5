"""Checkpoints: whole or not there.

A checkpoint is a folder ``step-000400`` that holds torch.distributed.checkpoint's files, the plain
state and a manifest with the checksum of every file. It is written under another name, and renamed
only after the manifest is on the disk; whatever has no manifest is not a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter

from engine.errors import RunError

FORMAT = 1
_MANIFEST = "manifest.json"
_STATE = "state.json"
_HEADROOM = 1.05  # of the tensors' bytes: DCP's metadata, and file-system blocks


@dataclass(frozen=True, slots=True)
class Saved:
    """A whole checkpoint."""

    folder: Path
    step: int
    world_size: int
    score: float | None


class Checkpoints:
    """The checkpoints of one stage."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 2,
        background: bool = True,
        rank: int = 0,
        on_saved: Callable[[Saved], None] | None = None,
    ) -> None:
        self.folder = folder
        self._keep = keep
        self._rank = rank
        self._on_saved = on_saved
        self._staging: dict[str, torch.Tensor] = {}
        self._pending: Future[Saved] | None = None
        self._pool = ThreadPoolExecutor(1, "checkpoint") if background else None
        # The writer thread must not share the training's group: collectives would interleave.
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._alone_or_together: dict[str, Any] = (
            {"process_group": self._group} if self._group is not None else {"no_dist": True}
        )

    def save(
        self, tensors: Mapping[str, Any], state: Mapping[str, Any], *, step: int, score: float | None
    ) -> None:
        """Starts a save; returns as soon as the tensors are copied. Raises RunError.

        ``score`` is the lower-is-better value by which the best checkpoint is kept.
        """
        self.wait()
        staged = _stage(dict(tensors), self._staging, copy=self._pool is not None)
        _check_space(self.folder, _bytes(staged))
        save = (staged, json.dumps(state), step, score)
        if self._pool is None:
            self._finish(self._write(*save))
        else:
            self._pending = self._pool.submit(self._write, *save)

    def wait(self) -> None:
        """Waits for the save that is under way. Raises RunError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._finish(pending.result())

    def poll(self) -> None:
        """Takes note of a save that has finished meanwhile, without waiting."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def close(self) -> None:
        """Waits, and ends the writer."""
        try:
            self.wait()
        finally:
            if self._pool:
                self._pool.shutdown()

    def all(self) -> list[Saved]:
        """The whole checkpoints, oldest first."""
        found = (_read_manifest(p) for p in sorted(self.folder.glob("step-*")))
        return [saved for saved in found if saved is not None]

    def latest(self, *, before: int | None = None) -> Saved | None:
        """The newest whole checkpoint (taken at most at step ``before``)."""
        found = [s for s in self.all() if before is None or s.step <= before]
        return found[-1] if found else None

    def load(self, saved: Saved, tensors: dict[str, Any]) -> dict[str, Any]:
        """Loads into ``tensors`` in place, and gives the plain state.

        Raises RunError when a file is damaged, naming it.
        """
        verify(saved.folder)
        reader = FileSystemReader(saved.folder / "tensors")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(tensors, storage_reader=reader, **self._alone_or_together)
        state: dict[str, Any] = json.loads((saved.folder / _STATE).read_text(encoding="utf-8"))
        return state

    def _write(
        self, tensors: dict[str, Any], state: str, step: int, score: float | None
    ) -> Saved:
        final = self.folder / f"step-{step:09d}"
        partial = self.folder / f".partial-{final.name}"
        try:
            if self._rank == 0:
                self._clear(partial)
                partial.mkdir(parents=True)
            if self._group is not None:
                dist.barrier(self._group)
            writer = FileSystemWriter(partial / "tensors")
            with warnings.catch_warnings():  # that one process saves alone is meant
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                dcp.save(tensors, storage_writer=writer, **self._alone_or_together)
            world_size = dist.get_world_size(self._group) if self._group is not None else 1
            if self._rank == 0:
                _write_durably(partial / _STATE, state)
                manifest = {
                    "format": FORMAT,
                    "step": step,
                    "world_size": world_size,
                    "score": score,
                    "files": checksums(partial),
                }
                _write_durably(partial / _MANIFEST, json.dumps(manifest, indent=1))
                if final.exists():  # the same step once more, after a roll-back
                    self._clear(final)
                os.replace(partial, final)
                _sync_folder(self.folder)
            if self._group is not None:
                dist.barrier(self._group)
        except OSError as error:
            if self._rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            raise RunError(
                f"checkpoint {final}: {error.strerror or error}",
                mend="the checkpoints before it are whole; free space or mend the folder, run again",
            ) from error
        return Saved(final, step, world_size, score)

    def _finish(self, saved: Saved) -> None:
        if self._rank == 0:
            kept = self.all()
            best = min((s for s in kept if s.score is not None), key=_score, default=None)
            for old in kept[: -self._keep]:
                if old != best:
                    self._clear(old.folder)
        if self._on_saved:
            self._on_saved(saved)

    @staticmethod
    def _clear(folder: Path) -> None:
        """Removes a folder; its manifest first, so that half of it never passes for a checkpoint."""
        (folder / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, its manifest apart, by relative name."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / _MANIFEST)
    return {p.relative_to(folder).as_posix(): _sha256(p) for p in files}


def write_manifest(folder: Path, **fields: Any) -> None:
    """Completes a folder: from now on :func:`verify` accepts it."""
    manifest = {"format": FORMAT, **fields, "files": checksums(folder)}
    _write_durably(folder / _MANIFEST, json.dumps(manifest, indent=1))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The folder's manifest, or None if it is not whole."""
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Checks every file against the manifest. Raises RunError naming the file that differs."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunError(f"{folder}: no readable manifest, so it is not whole")
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file():
            raise RunError(f"{file}: missing", mend=_mend_damage(folder))
        if _sha256(file) != expected:
            raise RunError(f"{file}: damaged (its checksum differs)", mend=_mend_damage(folder))
    return manifest


def _mend_damage(folder: Path) -> str:
    return f"remove {folder} and run again: it goes on from what was saved before"


def _read_manifest(folder: Path) -> Saved | None:
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    return Saved(folder, manifest["step"], manifest["world_size"], manifest["score"])


def _score(saved: Saved) -> float:
    assert saved.score is not None
    return saved.score


def _stage(value: Any, buffers: dict[str, torch.Tensor], *, copy: bool, path: str = "") -> Any:
    """Copies tensors into buffers that the next save uses again; allocating anew costs more."""
    if isinstance(value, Mapping):
        return {k: _stage(v, buffers, copy=copy, path=f"{path}/{k}") for k, v in value.items()}
    if not isinstance(value, torch.Tensor) or not copy:
        return value
    value = value.detach()
    buffer = buffers.get(path)
    if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
        buffers[path] = buffer = torch.empty_like(value, device="cpu")
    return buffer.copy_(value)


def _bytes(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(_bytes(v) for v in value.values())
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def _check_space(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed * _HEADROOM:
        raise RunError(
            f"checkpoint in {folder}: needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            mend="free some space and run again: nothing is lost since the last checkpoint",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_durably(path: Path, text: str) -> None:
    """The whole text or the file as it was."""
    partial = path.with_name(f".{path.name}.{threading.get_ident()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
