"""A benchmark's rows, as they stand on this machine.

The folder that ``engine evals fetch`` fills, and that a spec's ``rows`` may name, holds a file for
each split: ``<folder>/<benchmark>/<split>.jsonl``, e.g. ``hellaswag/validation.jsonl``. A benchmark
in parts has a folder for each: ``mmlu/astronomy/test.jsonl``, ``math/algebra/test.jsonl``. A line
is a row as the hub has it, in the hub's order. Instead of ``.jsonl`` a file may be ``.json`` (a
list of rows), ``.parquet`` or ``.arrow``.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine import RunError

_log = logging.getLogger(__name__)

Row = dict[str, Any]

_KINDS = (".jsonl", ".json", ".parquet", ".arrow")


def default_folder() -> Path:
    """Where fetched rows are: the environment variable ENGINE_EVALS, or else the user's cache."""
    return Path(os.environ.get("ENGINE_EVALS") or Path.home() / ".cache" / "engine" / "evals")


def read(benchmark: str, split: str, place: str | None) -> list[Row]:
    """The rows of a split of ``hellaswag`` or, in parts, of ``mmlu/astronomy``.

    ``place`` is a file, which then holds this split, or a folder as above (or the benchmark's own
    folder in it); None means :func:`default_folder`. Rows that cannot be read are left out, with
    one warning that counts them and names the first. Raises RunError where there is no file, or
    nothing in it can be read.
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


def stands_alone(place: str | None) -> bool:
    """Whether the place is a file: all that there is of a benchmark."""
    return place is not None and Path(place).expanduser().is_file()


def _find(benchmark: str, split: str, place: str | None) -> Path:
    folder = Path(place).expanduser() if place else default_folder()
    if stands_alone(place):
        return folder
    name, _, part = benchmark.partition("/")
    for where in (folder / name / part, folder / part):
        for kind in _KINDS:
            file = where / f"{split}{kind}"
            if file.is_file():
                return file
    raise RunError(
        f"{benchmark}: no rows of '{split}': no file {folder / name / part / split}.jsonl",
        mend=f"get them with 'engine evals fetch {name}', or name a file or folder in 'rows'",
    )


def _parsed(file: Path) -> Iterator[tuple[str, Any]]:
    """Where a row stands, and the row, or what is wrong with it."""
    if file.suffix == ".jsonl":
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{file}:{number}", _from_json(line)
        return
    try:
        found = _whole(file)
    except (OSError, ValueError) as error:  # pyarrow's errors are such, too
        yield str(file), error
        return
    for number, row in enumerate(found, 1):
        yield f"{file}, row {number}", row


def _from_json(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return error


def _whole(file: Path) -> list[Any]:
    """All rows of a file that is no JSONL. Raises OSError or ValueError for a damaged one."""
    if file.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file).to_pylist()
    if file.suffix == ".arrow":  # datasets writes a stream, pyarrow's feather a file
        import pyarrow as pa

        with pa.memory_map(str(file)) as source:
            try:
                return pa.ipc.open_stream(source).read_all().to_pylist()
            except pa.ArrowInvalid:
                return pa.ipc.open_file(source).read_all().to_pylist()
    found = json.loads(file.read_bytes())
    if not isinstance(found, list):
        raise ValueError("no list of rows")
    return found
