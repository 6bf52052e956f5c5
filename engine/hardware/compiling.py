"""Chooses compiled or eager layers by shape alone, so that resume stays exact.

Compiled and eager kernels round differently. Dynamo compiles a layer once for each shape and, past a
limit, runs every further shape eagerly, so the kernels of a shape depend on the shapes before it, which
differ in a resumed process. The same holds for automatic dynamic shapes: the second length makes one
graph for all. Here steps whose rows all fill the sequence run compiled, one graph for each number of
rows and without a limit. All else runs eagerly: steps with shorter rows, scoring and rollouts.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from engine.contracts.batch import Batch
from engine.errors import RunError
from engine.hardware.measurements import instructions

_NO_LIMIT = 2**31 - 1
_KERNELS = "TORCHINDUCTOR_CACHE_DIR"
_TORCHS_OWN = "torchinductor_"
"""Name of torch's default folder, up to the user's name."""
_SECONDS_OF_A_LINKER = 20
"""A file that has not changed for so long is not being written any more."""


def own_kernels() -> None:
    """Keeps compiled kernels in a folder for each processor, unless the user names a folder.

    Torch's cache does not distinguish instruction sets: kernels compiled with AVX-512 crashed a process
    that was limited to AVX2. Torch writes its default folder into the environment on import.
    """
    temporary = Path(tempfile.gettempdir())
    named = Path(os.environ.get(_KERNELS) or temporary / _TORCHS_OWN)
    if named.parent == temporary and named.name.startswith(_TORCHS_OWN):
        made_for = f"{zlib.crc32(instructions().encode()):08x}"
        folder = temporary / f"engine-kernels-{os.getuid()}"
        _make_own(folder)
        os.environ[_KERNELS] = str(folder / made_for)
        _remove_torn(folder / made_for)


def _remove_torn(folder: Path) -> None:
    """Removes libraries that a linker was writing when it was killed: torch would load them for ever.

    One that is still being written is waited for.
    """
    for file in folder.rglob("*.so"):
        with contextlib.suppress(FileNotFoundError):
            while _is_torn(file):
                if time.time() - file.stat().st_mtime > _SECONDS_OF_A_LINKER:
                    file.unlink()
                time.sleep(0.1)


def _is_torn(library: Path) -> bool:
    """Whether an ELF file ends before its table of sections, which stands last."""
    with library.open("rb") as file:
        header = file.read(64)
        size = os.fstat(file.fileno()).st_size
    if len(header) < 64:
        return True
    if header[:5] != b"\x7fELF\x02":  # another system's, or of 32 bits
        return False
    (offset,) = struct.unpack_from("<Q", header, 0x28)
    width, count = struct.unpack_from("<HH", header, 0x3A)
    return bool(size < offset + width * count)


def _make_own(folder: Path) -> None:
    """Creates the folder. Raises RunError if other users could put kernels, which are code, into it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o002:
        raise RunError(
            f"{folder}: is not a folder that only you own and can write, as compiled kernels need",
            hint=f"remove it, or set {_KERNELS} to another folder",
        )


@contextmanager
def eager() -> Iterator[None]:
    """Runs layers eagerly, except inside :func:`compiled`; wraps a whole stage.

    It lifts dynamo's limit on shapes. There are few: the rows of a micro-batch change with the batch's
    ramp and in a step's smaller last micro-batch.
    """
    limits: Any = torch.compiler.config
    unlimited = dict.fromkeys(("recompile_limit", "accumulated_recompile_limit"), _NO_LIMIT)
    with limits.patch(**unlimited), torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def compiled(micro_batches: Sequence[Batch], sequence: int) -> Iterator[None]:
    """Runs layers compiled if all rows of a step have ``sequence`` tokens."""
    if not are_full(micro_batches, sequence):
        yield
        return
    with torch.compiler.set_stance("default"):
        yield


def are_full(micro_batches: Sequence[Batch], sequence: int) -> bool:
    """Whether all rows have ``sequence`` tokens, padding included."""
    return all(batch.inputs["input_ids"].shape[1] == sequence for batch in micro_batches)
