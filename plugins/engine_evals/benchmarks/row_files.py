"""Reads files of a benchmark's rows.

The folder that ``engine evals fetch`` fills, or a spec's ``rows`` names, has a file for each split:
``<folder>/<benchmark>/<split>.jsonl``, e.g. ``hellaswag/validation.jsonl``. A benchmark with parts has
a folder for each: ``mmlu/astronomy/test.jsonl``, ``math/algebra/test.jsonl``. Each line is a row, with
the fields and in the order of the hub. Instead of ``.jsonl`` a file may be ``.json`` (a list of rows),
``.parquet`` or ``.arrow``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import RunError, json_of, read_json

_log = logging.getLogger(__name__)

Row = dict[str, Any]

_KINDS = (".jsonl", ".json", ".parquet", ".arrow")


def default_folder() -> Path:
    """The folder of fetched rows: the environment variable ENGINE_EVALS, or the user's cache."""
    return Path(os.environ.get("ENGINE_EVALS") or Path.home() / ".cache" / "engine" / "evals")


def read_rows(benchmark: str, split: str, place: str | None) -> list[Row]:
    """The rows of a split of ``hellaswag`` or, in parts, of ``mmlu/astronomy``.

    ``place`` is a file with this split, or a folder as above (or the benchmark's own folder in it);
    None means :func:`default_folder`. Unreadable rows are skipped, with one warning that counts them
    and names the first. Raises RunError where there is no file, or no readable row in it.
    """
    file = _find(benchmark, split, place)
    rows: list[Row] = []
    wrong: list[str] = []
    for where, row in _parsed(file):
        if isinstance(row, dict):
            rows.append(row)
        else:
            wrong.append(f"{where}: {row if isinstance(row, Exception) else 'no object'}")
    if not rows:
        cause = wrong[0] if wrong else f"{file}: empty"
        raise RunError(f"{benchmark}: no row of '{split}' can be read: {cause}")
    if wrong:
        _log.warning(
            "%s: %d of %d rows cannot be read and are left out; the first is %s",
            benchmark, len(wrong), len(wrong) + len(rows), wrong[0],
        )  # fmt: skip
    return rows


def is_single_file(place: str | None) -> bool:
    """Whether ``place`` is a single file with all rows of a benchmark."""
    return place is not None and Path(place).expanduser().is_file()


def _find(benchmark: str, split: str, place: str | None) -> Path:
    folder = Path(place).expanduser() if place else default_folder()
    if is_single_file(place):
        return folder
    name, _, part = benchmark.partition("/")
    for where in (folder / name / part, folder / part):
        for kind in _KINDS:
            file = where / f"{split}{kind}"
            if file.is_file():
                return file
    raise RunError(
        f"{benchmark}: no rows of '{split}': no file {folder / name / part / split}.jsonl",
        hint=f"get them with 'engine evals fetch {name}', or name a file or folder in 'rows'",
    )


def _parsed(file: Path) -> Iterator[tuple[str, Any]]:
    """Each row, or the error in its place, with its location."""
    if file.suffix == ".jsonl":
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file}:{number}", _from_json(line)
        return
    try:
        found = _whole(file)
    except (
        OSError,
        ArithmeticError,
        LookupError,
        ValueError,
    ) as error:  # pyarrow's errors among them
        yield str(file), error
        return
    for number, row in enumerate(found, 1):
        yield f"{file}, row {number}", row


def _from_json(line: bytes) -> Any:
    try:
        return json_of(line)
    except ValueError as error:
        return error


def _whole(file: Path) -> list[Any]:
    """All rows of a file that is not JSONL. Raises OSError or ValueError for a damaged file."""
    if file.suffix == ".parquet":
        import pyarrow.parquet

        rows: list[Any] = pyarrow.parquet.read_table(file).to_pylist()
        return rows
    if file.suffix == ".arrow":  # datasets writes a stream, pyarrow's feather a file
        import pyarrow as pa

        with pa.memory_map(str(file)) as source:
            try:
                rows = pa.ipc.open_stream(source).read_all().to_pylist()
            except pa.ArrowInvalid:
                rows = pa.ipc.open_file(source).read_all().to_pylist()
        return rows
    found = read_json(file)
    if not isinstance(found, list):
        raise ValueError("not a list of rows")
    return found
