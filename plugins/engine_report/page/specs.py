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
    """The fields that differ between the specs, in the order of the specs.

    What some specs do not have is one row, not one for each field in it. Of components of different
    types only the fields that all have are compared.
    """
    rows = [row for row in _differing(list(specs), ()) if row[0] not in _ALWAYS_DIFFERENT]
    return Matrix("field", labels, rows, numeric=False).narrow()


def _differing(values: list[Any], path: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """The paths, such as ``stages.base.train.optimizer.lr``, whose values differ, with these."""
    if len(path) > _DEEPEST:
        return
    if all(isinstance(value, dict) for value in values):
        of_one_type = len({str(value.get("type")) for value in values}) == 1
        for key in dict.fromkeys(key for value in values for key in value):
            parts = [value.get(key, _ABSENT) for value in values]
            if of_one_type or all(part is not _ABSENT for part in parts):
                yield from _differing(parts, (*path, str(key)))
    elif all(isinstance(value, list) for value in values) and any(map(_is_nested, values)):
        for place in range(max(map(len, values))):
            parts = [value[place] if place < len(value) else _ABSENT for value in values]
            yield from _differing(parts, (*path, str(place)))
    else:
        texts = [NOTHING if value is _ABSENT else _short(value) for value in values]
        if len(set(texts)) > 1:
            yield ".".join(path), texts


def _short(value: Any) -> str:
    """A value in a cell: of a mapping its type, or else its keys."""
    if not isinstance(value, dict):
        return _scalar(value)
    return _scalar(value["type"]) if "type" in value else ", ".join(map(str, value)) or "{}"
