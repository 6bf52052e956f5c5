"""Scores from a CSV file with columns ``flops``, ``score`` and ``n``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine import SpecError, cleaned, read_regular
from engine_scaling.emergence.points import Point

NEEDED = ("flops", "score", "n")
OPTIONAL = ("name", "logprob", "chance")


def read_points(file: Path) -> tuple[list[Point], list[str]]:
    """The points of a file, and the names of rows that are alike in all columns to one before, which
    count once. Raises SpecError with file, line and column of what is wrong."""
    hint = f"columns: {', '.join(NEEDED)}; also {', '.join(OPTIONAL)}"
    try:
        text = read_regular(file).decode("utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
        names = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = names
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise SpecError(f"{file}: has no column {' and no column '.join(missing)}", hint=hint)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError(f"{file}: column {cleaned(twice[0])!r} is there twice", hint=hint)
        unknown = [name for name in names if name not in (*NEEDED, *OPTIONAL)]
        if unknown:
            told = cleaned(", ".join(unknown))
            raise SpecError(f"{file}: columns that mean nothing here: {told}", hint=hint)
        found: dict[Point, Point] = {}
        repeated = []
        for row in rows:
            point = _point(row, file, rows.line_num)
            alike = replace(point, name=row.get("name") or "")
            if found.setdefault(alike, point) is not point:
                repeated.append(point.name)
        return list(found.values()), repeated
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (UnicodeError, csv.Error) as error:
        raise SpecError(f"{file}: is no CSV: {error}", hint=hint) from error


def _point(row: Mapping[str, str | None], file: Path, line: int) -> Point:
    where = f"{file}:{line}"
    if "" in row:
        raise SpecError(f"{where}: has more values than there are columns")
    try:
        n = _number(row, "n")
        if n is None or n != int(n):
            raise ValueError(f"n: {row['n']!r} is no whole number")
        flops, score = _number(row, "flops"), _number(row, "score")
        if flops is None or score is None:
            raise ValueError(f"{'flops' if flops is None else 'score'}: has no value")
        name = (row.get("name") or "").strip() or f"line {line}"
        return Point(name, flops, score, int(n), _number(row, "logprob"), _number(row, "chance"))
    except (ValueError, OverflowError) as error:
        raise SpecError(f"{where}: {error}") from error


def _number(row: Mapping[str, str | None], name: str) -> float | None:
    text = (row.get(name) or "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{name}: {text!r} is no number") from error
