"""Folders that `datasets` wrote by ``save_to_disk``: Arrow files, and what names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine import RunError, read_regular
from engine_data.tables import Rows, arrow_rows

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def saved_folder(path: Path) -> Path | None:
    """The saved data set that a path is, or that a file of it lies in; None for any other path."""
    folder = path if path.is_dir() else path.parent
    return folder if "_data_files" in _described(folder / _STATE) else None


def saved_splits(folder: Path) -> list[str]:
    """The names of the splits of a saved DatasetDict, each a saved folder below; else none."""
    return list(_described(folder / _SPLITS).get("splits", ()))


def saved_rows(folder: Path) -> Rows:
    """The rows of a saved folder, in their order. Raises RunError where it is damaged."""
    import pyarrow

    number = 0
    for entry in _described(folder / _STATE)["_data_files"]:
        name = str(entry["filename"])
        if Path(name).name != name:
            raise RunError(f"{folder / _STATE}: '{name}' is no file of this folder")
        file = folder / name
        try:
            with pyarrow.memory_map(str(file)) as mapped:
                batches = pyarrow.ipc.open_stream(mapped)
                for row in arrow_rows(batches):
                    number += 1
                    yield f"{folder.as_posix()}:{number}", row
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            raise RunError(f"{file}: not Arrow, or damaged: {error}") from error


def _described(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(file))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
