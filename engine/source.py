"""YAML read as plain data together with where each value stands, so that errors can say the line.

Also here, as both work on the text's level: ``extends:`` (a spec that changes another) and
``--set``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine.errors import SpecError

Path_ = tuple[str | int, ...]


@dataclass
class Source:
    """Plain data and, for every path in it, ``file:line``."""

    data: Any
    marks: dict[Path_, str] = field(default_factory=dict)

    def mark(self, path: Sequence[str | int]) -> str:
        """Where the value at ``path`` stands, or else what is nearest around it."""
        for end in range(len(path), -1, -1):
            found = self.marks.get(tuple(path[:end]))
            if found:
                return found
        return "spec"


def read(path: Path) -> Source:
    """The file's data with its ``extends:`` applied. Raises SpecError."""
    return _read(path, ())


def override(source: Source, assignment: str) -> None:
    """Applies one ``--set some.path=value`` in place; the value is YAML. Raises SpecError."""
    dotted, equals, text = assignment.partition("=")
    if not equals or not dotted:
        raise SpecError(f"--set {assignment}: write it as some.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {assignment}: the value is not YAML: {error}") from None
    keys: list[str | int] = []
    node = source.data
    *parents, last = dotted.split(".")
    for key in parents:
        node = _child(node, key, keys, assignment, create=True)
    _set(node, last, value, keys, assignment)
    path = (*keys, int(last) if isinstance(node, list) else last)
    source.marks = {k: v for k, v in source.marks.items() if k[: len(path)] != path}
    source.marks[path] = f"--set {dotted}"


def _child(node: Any, key: str, keys: list[str | int], assignment: str, *, create: bool) -> Any:
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        keys.append(int(key))
        return node[int(key)]
    if isinstance(node, dict):
        if create and node.get(key) is None:
            node[key] = {}
        keys.append(key)
        return node[key]
    where = ".".join(map(str, keys)) or "the spec"
    raise SpecError(f"--set {assignment}: {where} has no part '{key}'")


def _set(node: Any, key: str, value: Any, keys: list[str | int], assignment: str) -> None:
    if isinstance(node, dict):
        node[key] = value
    elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
        node[int(key)] = value
    else:
        where = ".".join(map(str, keys)) or "the spec"
        raise SpecError(f"--set {assignment}: {where} has no part '{key}'")


def _read(path: Path, above: tuple[Path, ...]) -> Source:
    if path.resolve() in above:
        chain = " → ".join(p.name for p in (*above, path))
        raise SpecError(f"{path}: extends itself: {chain}")
    source = _parse(path)
    if not isinstance(source.data, dict):
        raise SpecError(f"{path}:1: a spec is a mapping, with `engine: 1` as its first line")
    base_name = source.data.pop("extends", None)
    if base_name is None:
        return source
    mark = source.mark(("extends",))
    if not isinstance(base_name, str):
        raise SpecError(f"{mark}: extends: {base_name!r} is not a file's name")
    base_path = path.parent / base_name
    if not base_path.is_file():
        raise SpecError(f"{mark}: extends: no file '{base_path}'")
    base = _read(base_path, (*above, path.resolve()))
    _merge(base, source, ())
    return base


def _merge(base: Source, change: Source, path: Path_) -> None:
    """Mappings merge key by key unless their ``type`` differs; everything else is replaced."""
    old, new = _at(base.data, path), _at(change.data, path)
    for key, value in new.items():
        here = (*path, key)
        both = isinstance(value, dict) and isinstance(old.get(key), dict)
        if both and ("type" not in value or value["type"] == old[key].get("type")):
            _merge(base, change, here)
            continue
        old[key] = value
        depth = len(here)
        base.marks = {k: v for k, v in base.marks.items() if k[:depth] != here}
        base.marks.update({k: v for k, v in change.marks.items() if k[:depth] == here})


def _at(data: Any, path: Path_) -> Any:
    for key in path:
        data = data[key]
    return data


def _parse(path: Path) -> Source:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}{_near(path)}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text (byte {error.start})") from None
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        marks: dict[Path_, str] = {}
        problems = list(_walk(node, (), path, marks, set())) if node else []
        if problems:
            raise SpecError(*problems)
        return Source(loader.construct_document(node) if node else None, marks)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path}:{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}:1: not YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()


def _walk(
    node: yaml.Node, at: Path_, file: Path, marks: dict[Path_, str], above: set[int]
) -> Iterator[str]:
    """Notes the line of every value; yields problems that YAML itself lets pass."""
    line = f"{file}:{node.start_mark.line + 1}"
    marks.setdefault(at, line)
    if id(node) in above:
        yield f"{line}: an alias that contains itself"
        return
    above = above | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*at, index), file, marks, above)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            key_line = f"{file}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                yield f"{key_line}: a key must be a plain word"
                continue
            if key.value in seen:
                yield f"{key_line}: '{'.'.join(map(str, (*at, key.value)))}' stands twice"
            seen.add(key.value)
            marks[(*at, key.value)] = key_line
            yield from _walk(value, (*at, key.value), file, marks, above)


def _near(path: Path) -> str:
    folder = path.parent
    if path.exists() or not folder.is_dir():
        return ""
    names = [p.name for p in folder.iterdir() if p.suffix in (".yaml", ".yml")]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean '{folder / close[0]}'?" if close else ""
