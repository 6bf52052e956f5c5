"""Checkpoints: whole or not there.

A checkpoint is a folder ``step-000400`` that holds torch.distributed.checkpoint's files, the plain
state and a manifest with the checksum of every file. It is written under another name, and renamed
only after the manifest is on the disk; whatever has no manifest is not a checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
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

from engine import manifest
from engine.errors import RunError

_STATE = "state.json"
_BLOB = "feed.safetensors"
_SINCE = {"averaged_steps": 2**24}
"""Counters that older checkpoints lack, with the value at which training goes on as it did without
them: a weights' average has warmed up."""
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
        if rank == 0:
            self._sweep()

    def save(
        self,
        tensors: Mapping[str, Any],
        state: Mapping[str, Any],
        *,
        step: int,
        score: float | None,
        blob: bytes = b"",
    ) -> None:
        """Starts a save; returns as soon as the tensors are copied. Raises RunError.

        ``score`` is the lower-is-better value by which the best checkpoint is kept. ``blob``, the
        same on every rank, is what is too large for the plain state.
        """
        self.wait()
        staged = _stage(dict(tensors), self._staging, copy=self._pool is not None)
        _check_space(self.folder, _bytes(staged))
        save = (staged, json.dumps(state), blob, step, score)
        if self._pool is None:
            self._finish(self._write(*save))
        else:
            self._pending = self._pool.submit(self._write, *save)

    def check_space(self, tensors: Mapping[str, Any]) -> None:
        """Raises RunError unless all checkpoints that will be kept find room, those there counted.

        One more than are kept, as the oldest goes only when the newest is whole.
        """
        if self._rank == 0:
            have = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())
            _check_space(self.folder, (self._keep + 1) * _bytes(tensors) - have)

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps; collective."""
        if self._rank == 0:
            for saved in self.all():
                if saved.step > step:
                    self._clear(saved.folder)
        if self._group is not None:
            dist.barrier(self._group)

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
        found = (_saved(p) for p in sorted(self.folder.glob("step-*"), key=_place))
        return [saved for saved in found if saved is not None]

    def latest(self, *, before: int | None = None) -> Saved | None:
        """The newest whole checkpoint (taken at most at step ``before``)."""
        found = [s for s in self.all() if before is None or s.step <= before]
        return found[-1] if found else None

    def load(self, saved: Saved, tensors: dict[str, Any]) -> dict[str, Any]:
        """Loads into ``tensors`` in place, and gives the plain state.

        Raises RunError when a file is damaged, naming it.
        """
        manifest.verify(saved.folder)
        reader = FileSystemReader(saved.folder / "tensors")
        lacking = {}
        if wanted := _SINCE.keys() & tensors.keys():
            absent = wanted - reader.read_metadata().state_dict_metadata.keys()
            lacking = {name: tensors.pop(name).fill_(_SINCE[name]) for name in absent}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(tensors, storage_reader=reader, **self._alone_or_together)
        tensors |= lacking
        state: dict[str, Any] = json.loads((saved.folder / _STATE).read_text(encoding="utf-8"))
        return state

    def blob(self, saved: Saved) -> bytes:
        """What was saved as such; read after :meth:`load`, which verifies it."""
        file = saved.folder / _BLOB
        return file.read_bytes() if file.is_file() else b""

    def _write(
        self, tensors: dict[str, Any], state: str, blob: bytes, step: int, score: float | None
    ) -> Saved:
        final = self._free_name(step)
        partial = self.folder / f".partial-{final.name}"
        try:
            if self._rank == 0:
                partial.mkdir(parents=True)
            if self._group is not None:
                dist.barrier(self._group)
            writer = FileSystemWriter(partial / "tensors")
            with warnings.catch_warnings():  # that one process saves alone is meant
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                dcp.save(tensors, storage_writer=writer, **self._alone_or_together)
            world_size = dist.get_world_size(self._group) if self._group is not None else 1
            if self._rank == 0:
                manifest.write_durably(partial / _STATE, state)
                if blob:
                    manifest.write_durably(partial / _BLOB, blob)
                manifest.complete(partial, step=step, world_size=world_size, score=score)
                os.replace(partial, final)
                manifest.sync_folder(self.folder)
            if self._group is not None:
                dist.barrier(self._group)
        except (OSError, dcp.CheckpointException) as error:  # DCP wraps what it meets
            if self._rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            why = getattr(error, "strerror", None) or "writing failed"
            free = shutil.disk_usage(self.folder).free
            raise RunError(
                f"checkpoint {final}: {why}; {free / 1e6:.0f} MB are free",
                mend="the checkpoints before it are whole: make room or mend the folder, run again",
            ) from error
        return Saved(final, step, world_size, score)

    def _free_name(self, step: int) -> Path:
        """The same step may be saved once more after a roll-back: its name then sorts later."""
        name = self.folder / f"step-{step:09d}"
        again = max((_place(p)[1] + 1 for p in self.folder.glob(f"{name.name}*")), default=0)
        box = [name.with_name(f"{name.name}.{again}") if again else name]
        if self._group is not None:
            dist.broadcast_object_list(box, 0, self._group)
        return box[0]

    def _sweep(self) -> None:
        """Removes what a killed save, or a killed removal, left behind."""
        for folder in [*self.folder.glob(".partial-*"), *self.folder.glob("step-*")]:
            if folder.name.startswith(".") or manifest.read(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)

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
        (folder / manifest.NAME).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _saved(folder: Path) -> Saved | None:
    kept = manifest.read(folder)
    return Saved(folder, kept["step"], kept["world_size"], kept["score"]) if kept else None


def _place(folder: Path) -> tuple[str, int]:
    """``step-000000400.1`` → step and how often it was saved before."""
    return folder.stem, int(folder.suffix[1:] or 0)


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise RunError(f"checkpoint in {folder}: {error.strerror or error}") from error
    if free < needed * _HEADROOM:
        raise RunError(
            f"checkpoint in {folder}: needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            mend="free some space and run again: nothing is lost since the last checkpoint",
        )
