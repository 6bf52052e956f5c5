"""Checkpoints, written atomically.

A checkpoint is a folder such as ``step-000000400`` with torch.distributed.checkpoint's files, the plain
state and a manifest with the checksum of every file. It is written under another name, and renamed
only after the manifest is on disk; a folder without a manifest is not a checkpoint.
"""

from __future__ import annotations

import json
import os
import re
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
from torch.distributed.checkpoint import FileSystemWriter

from engine.errors import RunError
from engine.storage import manifest, unpickling
from engine.storage.saved_state import read_state
from engine.storage.staging import check_space, size, stage

_NAME = re.compile(r"(step-(\d+))(?:\.(\d+))?")
_TENSORS = "tensors"
_STATE = "state.json"
_BLOB = "feed.safetensors"
_NEWER_COUNTERS = {"averaged_steps": 2**24}
"""Counters that older checkpoints lack, with the value that continues training as before: the warm-up
of the averaged weights is over."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A complete checkpoint; ``score``: lower is better, None if unknown."""

    folder: Path
    step: int
    world_size: int
    score: float | None


class Checkpoints:
    """Saves, loads and deletes the checkpoints of one stage.

    ``keep``: number of last checkpoints kept beside the best; ``background``: write in a thread.
    """

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
        # The writer thread needs its own group: its collectives would interleave with training's.
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._dcp_options: dict[str, Any] = (
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
        """Starts a save, and returns as soon as the tensors are copied. Raises RunError.

        ``state``: JSON-serialisable; ``blob``: state that is too large for that, the same on every
        rank; ``score``: lower is better, decides which checkpoint is kept as the best.
        """
        self.wait()
        staged = stage(dict(tensors), self._staging, copy=self._pool is not None)
        check_space(self.folder, size(staged))
        save = (staged, json.dumps(state), blob, step, score)
        if self._pool is None:
            self._finish(self._write(*save))
        else:
            self._pending = self._pool.submit(self._write, *save)

    def check_space(self, tensors: Mapping[str, Any]) -> None:
        """Raises RunError unless all checkpoints that will be kept fit on the disk, existing ones
        included; and one more, since the oldest is deleted only after the newest is complete."""
        if self._rank == 0:
            have = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file())
            check_space(self.folder, (self._keep + 1) * size(tensors) - have)

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of steps after ``step``; collective."""
        if self._rank == 0:
            for saved in self.all():
                if saved.step > step:
                    self._clear(saved.folder)
        if self._group is not None:
            dist.barrier(self._group)

    def wait(self) -> None:
        """Waits for a running save. Raises RunError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._finish(pending.result())

    def poll(self) -> None:
        """Completes a background save if it has finished, without waiting."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def close(self) -> None:
        """Waits for a running save and stops the writer thread."""
        try:
            self.wait()
        finally:
            if self._pool:
                self._pool.shutdown()

    def all(self) -> list[Saved]:
        """The complete checkpoints, oldest first. Raises RunError for a damaged manifest."""
        found = (_saved(p) for p in sorted(self._folders(), key=_order))
        return [saved for saved in found if saved is not None]

    def latest(self, *, before: int | None = None) -> Saved | None:
        """The newest complete checkpoint, with ``before`` the newest up to that step; or None."""
        found = [s for s in self.all() if before is None or s.step <= before]
        return found[-1] if found else None

    def load(self, saved: Saved, tensors: dict[str, Any]) -> dict[str, Any]:
        """Loads into ``tensors`` in place; returns the plain state.

        Raises RunError for a damaged file and for tensors that do not match.
        """
        files = manifest.verify(saved.folder)["files"]
        folder = saved.folder / _TENSORS
        within = {n.removeprefix(f"{_TENSORS}/") for n in files if n.startswith(f"{_TENSORS}/")}
        reader = unpickling.Reader(folder, within)
        missing = {}
        if wanted := _NEWER_COUNTERS.keys() & tensors.keys():
            absent = wanted - reader.read_metadata().state_dict_metadata.keys()
            missing = {name: tensors.pop(name).fill_(_NEWER_COUNTERS[name]) for name in absent}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            try:
                dcp.load(
                    tensors,
                    storage_reader=reader,
                    planner=unpickling.Planner(),
                    **self._dcp_options,
                )
            except dcp.CheckpointException as error:
                raise RunError(
                    f"{folder}: its tensors are not those of this stage: {_cause(error)}",
                    hint=f"remove {saved.folder}, and run again",
                ) from error
        tensors |= missing
        return read_state(saved.folder / _STATE)

    def blob(self, saved: Saved) -> bytes:
        """The ``blob`` given to :meth:`save`; call :meth:`load` before, which verifies it."""
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
            writer = FileSystemWriter(partial / _TENSORS)
            with warnings.catch_warnings():  # saving from a single process is intended
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                dcp.save(tensors, storage_writer=writer, **self._dcp_options)
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
        except (OSError, dcp.CheckpointException) as error:  # DCP wraps other errors
            if self._rank == 0:
                shutil.rmtree(partial, ignore_errors=True)
            why = getattr(error, "strerror", None) or "writing failed"
            free = shutil.disk_usage(self.folder).free
            raise RunError(
                f"checkpoint {final}: {why}; {free / 1e6:.0f} MB are free",
                hint="free some space or repair the folder, run again: earlier checkpoints are intact",
            ) from error
        return Saved(final, step, world_size, score)

    def _free_name(self, step: int) -> Path:
        """Folder name for a step; numbered if the step was saved before a rollback, to sort later."""
        name = self.folder / f"step-{step:09d}"
        taken = [_order(p) for p in self._folders()]
        again = max((number + 1 for stem, number in taken if stem == name.name), default=0)
        box = [name.with_name(f"{name.name}.{again}") if again else name]
        if self._group is not None:
            dist.broadcast_object_list(box, 0, self._group)
        return box[0]

    def _sweep(self) -> None:
        """Removes folders without a manifest, left behind by a killed save or removal."""
        for folder in self._folders(".partial-"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self._folders():
            if manifest.is_missing(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self, prefix: str = "") -> list[Path]:
        """Folders with a checkpoint's name after ``prefix``; links are excluded."""
        found = self.folder.glob(f"{prefix}step-*")
        named = (p for p in found if _NAME.fullmatch(p.name.removeprefix(prefix)))
        return [p for p in named if p.is_dir() and not p.is_symlink()]

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
        """Removes a folder, its manifest first, so that a partly removed one is not a checkpoint."""
        (folder / manifest.NAME).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _saved(folder: Path) -> Saved | None:
    kept = manifest.read(folder)
    if kept is None:
        return None
    step, world_size, score = (kept.get(name) for name in ("step", "world_size", "score"))
    named = _NAME.fullmatch(folder.name)
    if (
        named is None
        or step != int(named[2])
        or not isinstance(world_size, int)
        or not isinstance(score, int | float | None)
    ):
        raise RunError(
            f"{folder / manifest.NAME}: is not the manifest of this checkpoint",
            hint=f"remove {folder} and run again: the stage resumes from what was saved before",
        )
    return Saved(folder, step, world_size, score)


def _order(folder: Path) -> tuple[str, int]:
    """Sort key of a checkpoint: step, and number of earlier saves, as in ``step-000000400.1``."""
    named = _NAME.fullmatch(folder.name)
    assert named is not None
    return named[1], int(named[3] or 0)


def _cause(error: Any) -> str:
    """The error of the first rank that failed, in one line."""
    first = next(iter(error.failures.values()))[0]
    return " ".join(str(first).split()) or type(first).__name__


def _score(saved: Saved) -> float:
    assert saved.score is not None
    return saved.score
