"""Which passes of a train stage run through compiled layers, so that resume stays exact.

Compiled and eager kernels round differently. Dynamo compiles a layer once for each shape, and past a
limit computes every further shape eagerly: by what a shape is computed then depends on the shapes
before it, of which a resumed process has seen others. Automatic dynamic shapes depend on them as
well: the second length that is met makes a graph for all. So here a shape alone decides: steps of
rows that all fill the sequence are compiled for, each number of rows by itself and without a limit,
and all else runs eagerly: steps of rows of other lengths, scoring and rollouts.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from engine.component import Batch
from engine.measured import instructions

_NO_LIMIT = 2**31 - 1
_KERNELS = "TORCHINDUCTOR_CACHE_DIR"
_TORCHS_OWN = "torchinductor_"
"""What torch's folder is called, before the user's name."""


def own_kernels() -> None:
    """Keeps compiled kernels apart by processor, where the user names no folder for them.

    Torch finds kernels again by their graph and not by the instructions that they were made for: those
    made with AVX-512 ended in a segmentation fault where a process was limited to AVX2. It writes its
    own choice of a folder into the environment as it is imported.
    """
    temporary = Path(tempfile.gettempdir())
    named = Path(os.environ.get(_KERNELS) or temporary / _TORCHS_OWN)
    if named.parent == temporary and named.name.startswith(_TORCHS_OWN):
        made_for = f"{zlib.crc32(instructions().encode()):08x}"
        os.environ[_KERNELS] = str(temporary / f"engine-kernels-{os.getuid()}" / made_for)


@contextmanager
def eager() -> Iterator[None]:
    """Layers run as if they were not compiled, but inside :func:`compiled`; around a whole stage.

    Meanwhile dynamo compiles for any number of shapes. There are few: the rows of a micro-batch
    change with the batch's ramp and where a step's last one is smaller.
    """
    limits: Any = torch.compiler.config
    unlimited = dict.fromkeys(("recompile_limit", "accumulated_recompile_limit"), _NO_LIMIT)
    with limits.patch(**unlimited), torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def compiled(micro_batches: Sequence[Batch], sequence: int) -> Iterator[None]:
    """Layers run compiled if all rows of a step have ``sequence`` tokens."""
    if not are_full(micro_batches, sequence):
        yield
        return
    with torch.compiler.set_stance("default"):
        yield


def are_full(micro_batches: Sequence[Batch], sequence: int) -> bool:
    """Whether all rows have ``sequence`` tokens, padding counted."""
    return all(batch.inputs["input_ids"].shape[1] == sequence for batch in micro_batches)
