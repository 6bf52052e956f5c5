"""Folders written by ``save_to_disk`` of `datasets`: Arrow files, listed in a JSON file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine import RunError, read_json
from engine.files import expanded, matches
from engine_data.rows.readers import UNREADABLE, Rows, arrow_rows

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def saved_folder(path: Path) -> Path | None:
    """The saved data set at a path, or around a file of it; None for any other path."""
    folder = path if path.is_dir() else path.parent
    return folder if "_data_files" in _described(folder / _STATE) else None


def saved_among(patterns: Iterable[str]) -> list[str]:
    """The saved data sets among names and globs; unreadable ones are left out."""
    try:
        paths = [path for pattern in patterns for path in matches(expanded(pattern))]
    except (OSError, ValueError):  # reported when it is read
        return []
    folders = {path if path.is_dir() else path.parent for path in paths}
    return sorted(str(folder) for folder in folders if saved_folder(folder))


def saved_splits(folder: Path) -> list[str]:
    """The splits of a saved DatasetDict, each a folder in it; empty for any other folder."""
    splits = _described(folder / _SPLITS).get("splits")
    return list(map(str, splits)) if isinstance(splits, list) else []


def saved_rows(folder: Path) -> Rows:
    """The rows of a saved data set in order. Raises RunError where it is damaged."""
    import pyarrow

    number = 0
    for file in _data_files(folder):
        try:
            with pyarrow.memory_map(str(file)) as mapped:
                batches = pyarrow.ipc.open_stream(mapped)
                for row in arrow_rows(batches):
                    number += 1
                    yield f"{folder.as_posix()}:{number}", row
        except (pyarrow.ArrowException, *UNREADABLE) as error:
            raise RunError(f"{file}: not Arrow, or damaged: {error}") from error


def _data_files(folder: Path) -> Iterator[Path]:
    """The folder's Arrow files. Raises RunError for a name that is not a regular file in the folder."""
    entries = _described(folder / _STATE)["_data_files"]
    for entry in entries if isinstance(entries, list) else [entries]:
        name = entry.get("filename") if isinstance(entry, dict) else entry
        file = folder / str(name)
        if Path(str(name)).name != name or not file.is_file():
            raise RunError(f"{folder / _STATE}: '{name}' is no file of this folder")
        yield file


def _described(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
