"""Refuses data sets with which the `datasets` library would read other files or servers: by their card,
or by a name that is one of the library's formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from engine import read_regular, time_limit

_CARD, _SETTINGS = "README.md", ".huggingface.yaml"
_FRONT = re.compile(r"\A\s*---\r?\n(.*?)^---", re.DOTALL | re.MULTILINE)
_LARGEST = 10_000_000


def dataset_fault(path: str) -> str | None:
    """Why a data set is refused, in one line; None if it is not.

    It is refused where its folder's card names data outside the folder, and where its name is a format,
    for which `datasets` would read the current folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        return f"'{path}' is a format of files, not a data set" if path in _formats() else None
    for file in (folder / _CARD, folder / _SETTINGS):
        if not file.exists():
            continue
        try:
            found = [name for name in _names(_described(file)) if not _is_inside(name)]
        except (OSError, ValueError, RecursionError) as error:
            return f"'{file}' cannot be read: {' '.join(str(error).split())}"
        if found:
            return (
                f"'{file}' takes data from outside the folder: '{found[0]}'; name those files in a "
                "source `files`"
            )
    return None


def _formats() -> set[str]:
    """The names of file formats that `datasets` can read."""
    found = find_spec("datasets")
    places = found.submodule_search_locations if found else None
    return {p.name for place in places or () for p in Path(place, "packaged_modules").iterdir()}


def _described(file: Path) -> Any:
    import yaml

    text = read_regular(file, _LARGEST).decode("utf-8")
    if file.name == _CARD:
        front = _FRONT.search(text)
        text = front[1] if front else ""
    with time_limit(f"{file}: reading it", "look at what it says at its beginning"):
        try:
            told = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(str(error)) from error
    return told.get("configs") if isinstance(told, dict) else None


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _names(one)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not (":" in name or path.is_absolute() or {"..", "~"} & set(path.parts))
