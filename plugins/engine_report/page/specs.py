"""The spec of a run with all its defaults, and where the specs of several runs differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine_report.page.matrix import NOTHING, Matrix

_ALWAYS_DIFFERENT = ("name",)
_DEEPEST = 64


@dataclass(frozen=True, slots=True)
class SpecLine:
    """A line of a spec: ``key`` and ``value`` as YAML writes them, and whether it is a ``default``."""

    indent: str
    key: str
    value: str
    default: bool


def spec_lines(spec: Mapping[str, Any], given: Any) -> list[SpecLine]:
    """The lines of a resolved spec. ``given`` has what the user wrote, in the same shape; None if that
    is not known, so that no line counts as a default."""
    return list(_lines(spec, given, "", given is not None))


def _lines(data: Any, given: Any, indent: str, known: bool) -> Iterator[SpecLine]:
    if len(indent) > 2 * _DEEPEST:
        return
    for key, mark, value in _entries(data):
        own = _within(given, key)
        default = known and own is _ABSENT
        if not _is_nested(value):
            yield SpecLine(indent, mark, _scalar(value), default)
        elif mark == "-":  # as YAML writes it, the item's first line is that of the dash
            first, *others = _lines(value, own, f"{indent}  ", known)
            yield SpecLine(indent, f"- {first.key}", first.value, first.default)
            yield from others
        else:
            yield SpecLine(indent, mark, "", default)
            yield from _lines(value, own, f"{indent}  ", known)


_ABSENT: Any = object()


def _is_nested(value: Any) -> bool:
    """Whether a value takes lines of its own: a list of plain values does not."""
    if isinstance(value, list):
        return any(isinstance(one, dict | list) for one in value)
    return isinstance(value, dict) and bool(value)


def _entries(data: Any) -> Iterator[tuple[Any, str, Any]]:
    """Each entry of a mapping or list: where it stands, how it begins, and its value."""
    if isinstance(data, list):
        for place, value in enumerate(data):
            yield place, "-", value
        return
    kind = {"type": data["type"]} if "type" in data else {}  # says what the others mean
    for key, value in {**kind, **data}.items():
        yield key, f"{key}:", value


def _within(given: Any, key: Any) -> Any:
    """What was given of an entry."""
    if isinstance(given, dict):
        return given.get(key, _ABSENT)
    if isinstance(given, list) and isinstance(key, int) and key < len(given):
        return given[key]
    return _ABSENT


def _scalar(value: Any) -> str:
    """A value as YAML reads it: text without quotes where that is not ambiguous."""
    if isinstance(value, str) and value and value.strip() == value and "\n" not in value:
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    # A date, which YAML knows and JSON does not, as text.
    return json.dumps(value, ensure_ascii=False, default=str)


def differences(labels: Sequence[str], specs: Sequence[Mapping[str, Any]]) -> Matrix:
    """The fields that differ between the specs, in the order of the specs."""
    flat = [dict(_leaves(spec, ())) for spec in specs]
    paths = dict.fromkeys(path for one in flat for path in one)
    rows = []
    for path in paths:
        values = [one.get(path, NOTHING) for one in flat]
        if path not in _ALWAYS_DIFFERENT and len(set(values)) > 1:
            rows.append((path, values))
    return Matrix("field", labels, rows, numeric=False).narrow()


def _leaves(data: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The values by their paths, such as ``stages.base.train.optimizer.lr``."""
    if len(path) > _DEEPEST:
        return
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(data, list) and _is_nested(data):
        for place, value in enumerate(data):
            yield from _leaves(value, (*path, str(place)))
    elif path:
        yield ".".join(path), _scalar(data)
