"""A spec's data from its file, the files that it extends, and ``--set``."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

from engine.errors import Location, SpecError
from engine.files.reading import read_regular
from engine.spec.permissions import Permissions
from engine.spec.yaml_lines import Source, parse

_LARGEST = 10_000_000
"""Largest size of a spec's file, in bytes."""


def read(path: Path, permissions: Permissions) -> Source:
    """Reads a file and applies its ``extends:``, which must stay inside the file's folder unless
    ``files`` is allowed. Raises SpecError."""
    return _read(path, (), None if permissions.allows("files") else path.parent.resolve())


def override(source: Source, assignment: str) -> None:
    """Applies one ``--set some.path=value`` in place; the value is YAML. Raises SpecError."""
    dotted, equals, text = assignment.partition("=")
    mark = f"--set {dotted}"
    keys = dotted.split(".")
    if not equals or not all(keys):
        raise SpecError(f"--set {assignment}: write it as some.path=value")
    value = parse(text, lambda line: mark).data
    node: Any = source.data
    at: Location = ()
    for key in keys[:-1]:
        at = (*at, _key(node, key, at, mark))
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = {}
            source.replaced(at, mark)
        node = node[at[-1]]
    at = (*at, _key(node, keys[-1], at, mark))
    node[at[-1]] = value
    source.replaced(at, mark)


def _key(node: Any, key: str, at: Location, mark: str) -> str | int:
    """``key`` as a mapping's key or a list's index. Raises SpecError."""
    where = ".".join(map(str, at))
    if isinstance(node, dict):
        return key
    if not isinstance(node, list):
        raise SpecError(f"{mark}: {where} is {node!r}, which has no fields")
    if not (key.isdecimal() and int(key) < len(node)):
        raise SpecError(f"{mark}: {where} is a list of {len(node)}, which has no index '{key}'")
    return int(key)


def _read(path: Path, above: tuple[Path, ...], home: Path | None, where: str = "") -> Source:
    source = parse(_text(path, where), lambda line: f"{path}:{line}")
    source.files = (path,)
    if not isinstance(source.data, dict):
        raise SpecError(f"{path}:1: a spec is a mapping, with `engine: 1` as its first line")
    name = source.data.pop("extends", None)
    if name is None:
        return source
    where = f"{source.mark(('extends',))}: extends: "
    if not isinstance(name, str):
        raise SpecError(f"{where}{name!r} is not a file's name")
    chain = (*above, path)
    extended = path.parent / name
    if os.path.abspath(extended) in map(os.path.abspath, chain):
        names = " → ".join(p.name for p in (*chain, extended))
        raise SpecError(f"{where}the files extend each other: {names}")
    if home is not None and not _is_inside(extended, home):
        raise SpecError(
            f"{where}{name} is outside the spec's folder; to allow that, add `--allow files`"
        )
    base = _read(extended, chain, home, where)
    _merge(base, source, ())
    base.marks[()] = source.marks[()]
    base.files += source.files
    return base


def _merge(base: Source, change: Source, path: Location) -> None:
    """Mappings merge key by key unless their ``type`` differs; everything else is replaced."""
    old, new = _at(base.data, path), _at(change.data, path)
    for key, value in new.items():
        here = (*path, key)
        both = isinstance(value, dict) and isinstance(old.get(key), dict)
        if both and ("type" not in value or value["type"] == old[key].get("type")):
            _merge(base, change, here)
            continue
        old[key] = value
        base.replaced(here, change.mark(here))
        base.marks |= {k: v for k, v in change.marks.items() if k[: len(here)] == here}


def _at(data: Any, path: Location) -> Any:
    for key in path:
        data = data[key]
    return data


def _is_inside(path: Path, home: Path) -> bool:
    """Whether a path, with links resolved, is in ``home``. An invalid path counts as inside: reading it
    reports the error."""
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, ValueError, RuntimeError):
        return True


def _text(path: Path, where: str) -> str:
    try:
        return read_regular(path, _LARGEST).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SpecError(
            f"{path}:{line}: not UTF-8 text (byte {error.object[error.start]:#04x})"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: an invalid file name
        why = getattr(error, "strerror", None) or error
        raise SpecError(f"{where}{path}: cannot be read: {why}{_near(path)}") from None


def _near(path: Path) -> str:
    folder = path.parent
    try:
        named = {p.stem: p for p in folder.iterdir() if p.suffix in (".yaml", ".yml") and p != path}
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(path.stem, named, n=1)
    return f"; did you mean '{named[close[0]]}'?" if close else ""
