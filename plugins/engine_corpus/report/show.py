"""The command ``engine corpus show``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from engine import SpecError, Terminal, read_json, write_cleaned, write_durably
from engine_corpus.report.waterfall import Row, bad_rows, waterfall


def show(folder: Path, html: Path | None, as_json: bool) -> None:
    """Prints the card of a prepared folder, and writes it as a page where ``html`` names a file. Raises
    SpecError where there is none."""
    card = _card(folder)
    if html is not None:
        from engine_corpus.report.page import page

        write_durably(html, page(str(folder), card).encode())
    if as_json:
        write_cleaned(json.dumps(card))
        return
    terminal = Terminal()
    for table in tables(card):
        terminal.print(table)
    for line in remarks(card):
        terminal.print(f"  {escape(line)}")


def tables(card: Mapping[str, Any]) -> Iterator[Table]:
    """A table of each source."""
    for source in card["sources"]:
        table = Table(box=None, pad_edge=False)
        table.add_column(escape(source["source"]), overflow="fold")
        table.add_column("", overflow="fold")
        table.add_column("documents", justify="right")
        table.add_column("bytes", justify="right")
        for row in waterfall({"sources": [source]}):
            documents = f"{row.documents:,}" if row.documents else ""
            table.add_row(
                escape(f"  {row.step}"), escape(row.what), documents, _size(row), style=_style(row)
            )
        yield table


def remarks(card: Mapping[str, Any]) -> Iterator[str]:
    """What else a person should know: bad rows, warnings of steps, and benchmarks."""
    for source in card["sources"]:
        for reason, count in bad_rows(source).items():
            yield f"{source['source']}: {count:,} bad rows: {reason}"
    for step in card.get("processors", ()):
        for warning in step.get("warnings", ()):
            yield f"{step['step']}: {warning}"
        for name, found in step.get("benchmarks", {}).items():
            touched = f"{found['touched']:,} of {found['items']:,} items"
            yield f"{step['step']}: {name}: {touched} in {found['documents']:,} documents"


def _card(folder: Path) -> Any:
    file = folder / "card.json"
    try:
        card = read_json(file)
        accounted = all("account" in source for source in card["sources"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SpecError(
            f"{folder}: not a prepared corpus ({error})",
            hint="name the folder of a prepare stage, such as runs/NAME/corpus",
        ) from error
    if not accounted:
        raise SpecError(
            f"{folder}: its card has no account of its steps, as it was prepared before there was one",
            hint="prepare it again: `engine run SPEC --rerun STAGE`",
        )
    return card


def _size(row: Row) -> str:
    size, sign = float(abs(row.bytes)), "−" if row.bytes < 0 else ""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{sign}{size:.3g} {unit}"
        size /= 1000
    raise AssertionError


def _style(row: Row) -> str:
    return "bold" if row.step in ("read", "kept") else ""
