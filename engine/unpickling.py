"""Reads torch.distributed.checkpoint's files as data: whatever they say, no code of theirs runs.

Its ``.metadata`` is a pickle, and so is each value that is no tensor. A pickle names what it is to
call; here it may name what describes tensors, and nothing else.
"""

from __future__ import annotations

import io
import pathlib
import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, Metadata
from torch.distributed.checkpoint import filesystem as dcp_files
from torch.distributed.checkpoint import metadata as dcp_metadata

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
    """Reads only the ``files`` (names below ``folder``) whose checksums were compared.

    Raises RunError where the metadata names other files, or is not metadata.
    """

    def __init__(self, folder: Path, files: Collection[str]) -> None:
        super().__init__(folder)
        self._metadata = _checked(folder / ".metadata", files)

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What the checkpoint holds."""
        return self._metadata


class Planner(DefaultLoadPlanner):
    """Loads values that are no tensors as plain data."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        """As the default one, of what torch reads without running code."""
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _CLASSES.get((module, name))
        if found is None and module == "torch":
            found = getattr(torch, name, None)
            found = found if isinstance(found, torch.dtype) else None
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which describes no tensor")
        return found


def _checked(file: Path, files: Collection[str]) -> Metadata:
    mend = f"remove {file.parent.parent} and run again: it goes on from what was saved before"
    try:
        with file.open("rb") as opened:
            metadata = _Unpickler(opened).load()
        if not isinstance(metadata, Metadata):
            raise TypeError(f"it holds a {type(metadata).__name__}")
        for stored in metadata.storage_data.values():
            if stored.relative_path not in files or stored.transform_descriptors:
                raise ValueError(f"it names {stored.relative_path!r}, no file of this checkpoint")
    except Exception as error:  # a pickle can have anything wrong
        raise RunError(f"{file}: is no metadata of a checkpoint ({error})", mend=mend) from error
    metadata.storage_meta = dcp_metadata.StorageMeta()
    return metadata
