"""Points of a table of trainings (CSV with a header)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from engine import SpecError, cleaned, read_regular
from engine_scaling.points.point import Found, Point
from engine_scaling.points.runs import FLOPS

_NEEDED = ("parameters", "tokens", "loss")
_NUMBERS = ("flops", "body", "unique", "steps", "stderr", "bits_per_byte", "seed")
_WHOLE = ("steps", "seed")
_TEXTS = ("name", "tokenizer", "held_out")
COLUMNS = (*_NEEDED, *_NUMBERS, *_TEXTS)
"""The columns that a table may have; the first three it must have."""
_MOST = 1e40
"""With its inverse the range of figures, so that none overflows in a fit."""


def add_table(file: Path, found: Found) -> None:
    """Adds the points of a table. Raises SpecError for one that is damaged or cannot be read."""
    try:
        text = read_regular(file).decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{file}: is not UTF-8 text") from error
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_header(file, rows.fieldnames or ())
        for row in rows:
            _add(f"{file}:{rows.line_num}", row, found)
    except csv.Error as error:
        raise SpecError(f"{file}:{rows.line_num}: is no table: {error}") from error


def _check_header(file: Path, names: object) -> None:
    """Raises SpecError for columns that are missing, unknown or twice there."""
    columns = list(names) if isinstance(names, list | tuple) else []
    for name in columns:
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, 1)
            raise SpecError(
                f"{file}:1: column '{cleaned(name)}' is unknown",
                hint=f"did you mean {near[0]}?" if near else f"columns are {', '.join(COLUMNS)}",
            )
        if columns.count(name) > 1:
            raise SpecError(f"{file}:1: column '{name}' is there twice")
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise SpecError(
            f"{file}:1: column '{missing[0]}' is missing",
            hint="the first line names the columns: parameters, tokens, loss and others",
        )


def _add(place: str, row: Mapping[str | None, object], found: Found) -> None:
    """Adds a row's point; a row without a finite loss is left out."""
    if None in row or None in row.values():
        raise SpecError(f"{place}: the row has another number of fields than the header")
    cells = {name: str(cell).strip() for name, cell in row.items()}
    name = cells.get("name") or place.rsplit("/", 1)[-1]
    loss = _number(place, "loss", cells["loss"], finite=False)
    if not math.isfinite(loss):
        found.left_out.append((name, "its loss is not finite"))
        return
    numbers = {k: _number(place, k, cells[k]) for k in _NUMBERS if cells.get(k)}
    parameters, tokens = (_number(place, k, cells[k]) for k in _NEEDED[:2])
    if not numbers.get("body", 0) <= parameters:
        raise SpecError(f"{place}: body {cells['body']} is more than all parameters")
    if not numbers.get("unique", 0) <= tokens:
        raise SpecError(f"{place}: unique {cells['unique']} is more than all tokens")
    if "flops" not in numbers:
        found.notes.append("FLOPs as 6·N·D where the table does not tell them")
    found.add(
        Point(
            name,
            parameters,
            tokens,
            loss,
            numbers.get("flops", FLOPS * parameters * tokens),
            body=numbers.get("body", math.nan),
            unique=numbers.get("unique", math.nan),
            steps=int(numbers.get("steps", 0)),
            stderr=numbers.get("stderr", math.nan),
            bits_per_byte=numbers.get("bits_per_byte", math.nan),
            seed=(int(numbers["seed"]), 0) if "seed" in numbers else None,
            tokenizer=cells.get("tokenizer", ""),
            held_out=cells.get("held_out", ""),
        ),
        cells.get("name", ""),
    )


def _number(place: str, name: str, text: str, *, finite: bool = True) -> float:
    """A cell's positive number, whole for steps and seeds; seeds and standard errors may be 0. Raises
    SpecError."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not finite and not math.isfinite(number) and not number < 0:
        return number
    zero = name in ("seed", "stderr")
    if not (number > 0 or (zero and number == 0)):
        what = "a number of 0 or more" if zero else "a positive number"
    elif name in _WHOLE and not number.is_integer():
        what = "a whole number"
    elif number and not 1 / _MOST <= number <= _MOST:
        what = f"between {1 / _MOST:g} and {_MOST:g}"
    else:
        return number
    raise SpecError(
        f"{place}: {name} '{cleaned(text)}' is not {what}",
        hint=None if name in _NEEDED else "leave the cell empty if it is not known",
    )
