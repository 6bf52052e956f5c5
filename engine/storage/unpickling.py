"""Reads files of torch.distributed.checkpoint without running code from them.

Their ``.metadata`` is a pickle, and so is each value that is not a tensor. A pickle names the functions
to call; here only those that describe tensors are allowed.
"""

from __future__ import annotations

import io
import pathlib
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import (
    DefaultLoadPlanner,
    FileSystemReader,
    Metadata,
    filesystem as dcp_files,
    metadata as dcp_metadata,
)

from engine.errors import RunError

_CLASSES = {
    **{
        (dcp_metadata.__name__, name): getattr(dcp_metadata, name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    },
    (dcp_files.__name__, "_StorageInfo"): dcp_files._StorageInfo,
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,  # looks a name up
    **{(m, "PosixPath"): pathlib.PurePosixPath for m in ("pathlib", "pathlib._local")},
}


class Reader(FileSystemReader):
    """Reads only the given ``files`` (names relative to ``folder``), whose checksums were verified.

    Raises RunError if the metadata is invalid or names other files.
    """

    def __init__(self, folder: Path, files: Collection[str]) -> None:
        super().__init__(folder)
        self._metadata = _checked(folder / ".metadata", files)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The checkpoint's metadata."""
        return self._metadata


class Planner(DefaultLoadPlanner):
    """Loads values that are not tensors as plain data."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        """See :class:`DefaultLoadPlanner`; accepts only what ``weights_only=True`` can load."""
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)


_InPython: Any = pickle._Unpickler  # the C implementation does not allow overriding opcodes


class _Unpickler(_InPython):  # type: ignore[misc]
    def load_build(self) -> None:
        """Sets attributes on a new object; on a class or function they would affect all its users."""
        built = type(self.stack[-2])
        if built not in _CLASSES.values():
            raise pickle.UnpicklingError(f"it sets attributes of a {built.__name__}")
        super().load_build()

    dispatch: ClassVar = {**_InPython.dispatch, pickle.BUILD[0]: load_build}

    def find_class(self, module: str, name: str) -> Any:
        found = _CLASSES.get((module, name))
        if found is None and module == "torch":
            found = getattr(torch, name, None)
            found = found if isinstance(found, torch.dtype) else None
        if found is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return found


def _checked(file: Path, files: Collection[str]) -> Metadata:
    hint = (
        f"remove {file.parent.parent} and run again: the stage resumes from what was saved before"
    )
    try:
        with file.open("rb") as opened:
            metadata = _Unpickler(opened).load()
        if not isinstance(metadata, Metadata):
            raise TypeError(f"it holds a {type(metadata).__name__}")
        for stored in metadata.storage_data.values():
            if stored.relative_path not in files or stored.transform_descriptors:
                raise ValueError(f"{stored.relative_path!r} is not a file of this checkpoint")
    except Exception as error:  # a damaged pickle may raise anything
        raise RunError(f"{file}: is not a checkpoint's metadata ({error})", hint=hint) from error
    metadata.storage_meta = dcp_metadata.StorageMeta()
    return metadata
