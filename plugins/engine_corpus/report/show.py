"""The commands ``engine corpus show`` and ``engine corpus try``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from engine import RunError, SpecError, Terminal, read_json, write_cleaned, write_durably
from engine_corpus.report.bias import bias
from engine_corpus.report.sizes import size_of, values_of
from engine_corpus.report.waterfall import Row, bad_rows, waterfall

_SHOWN = 100
"""Characters of a sample's text that are shown."""


def show(folder: Path, html: Path | None, samples: int, as_json: bool) -> None:
    """Prints the card of a prepared folder, and writes it as a page where ``html`` names a file. Raises
    SpecError where there is none, RunError where the page cannot be written."""
    card = _card(folder)
    if html is not None:
        from engine_corpus.report.page import page

        try:
            write_durably(html, page(str(folder), card).encode())
        except OSError as error:
            raise RunError(f"{html}: cannot be written: {error.strerror or error}") from error
    print_card(card, samples, as_json)


def write_page(folder: Path) -> None:
    """Writes ``card.html`` beside the card of a prepared folder, if one of its steps says something of
    the corpus and the plots can be drawn."""
    card = _card(folder)
    if "processors" in card and all(map(find_spec, ("altair", "vl_convert"))):
        from engine_corpus.report.page import page

        write_durably(folder / "card.html", page(str(folder), card).encode())


def print_card(card: Mapping[str, Any], samples: int, as_json: bool) -> None:
    """Prints a card, with so many samples of what each rule has dropped."""
    if as_json:
        write_cleaned(json.dumps(card))
        return
    terminal = Terminal()
    for table in tables(card):
        terminal.print(table)
    for line in remarks(card):
        terminal.print(f"  {escape(line)}")
    for line in _samples(card, samples):
        terminal.print(line)


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
                escape(f"  {row.step}"),
                escape(row.what),
                documents,
                size_of(row.bytes),
                style=_style(row),
            )
        yield table


def remarks(card: Mapping[str, Any]) -> Iterator[str]:
    """What else a person should know: bad rows, warnings of steps, and benchmarks."""
    for one in card.get("mixture", ()) if len(card["sources"]) > 1 else ():
        yield f"{one['source']}: weight {one['weight']:g}, {one['epochs']:.2f} epochs"
    for source in card["sources"]:
        for reason, count in bad_rows(source).items():
            yield f"{source['source']}: {count:,} bad {'row' if count == 1 else 'rows'}: {reason}"
    for step in card.get("processors", ()):
        for warning in step.get("warnings", ()):
            yield f"{step['step']}: {warning}"
        for name, found in step.get("benchmarks", {}).items():
            touched = f"{len(found['touched']):,} of {found['items']:,} items"
            yield f"{step['step']}: {name}: {touched} in {found['documents']:,} documents"

    for shares in bias(card):
        for group, one in shares["groups"].items():
            if one["differs"]:
                yield (
                    f"{shares['rule']}: drops {_share(one)} of the documents that mention {group}, "
                    f"{_share(shares['all'])} of all"
                )


def _share(one: Mapping[str, Any]) -> str:
    """A share in per cent with its interval."""
    return f"{one['share']:.1%} ({one['low']:.1%} to {one['high']:.1%})"


def _samples(card: Mapping[str, Any], count: int) -> Iterator[str]:
    """Documents that rules have dropped, with what decided."""
    for rule in card.get("samples", ()) if count else ():
        yield f"[bold]{escape(rule['step'])}: {escape(rule['rule'])}[/]"
        for one in rule["documents"][:count]:
            found = f" ({escape(values_of(one['found']))})" if one["found"] else ""
            text = " ".join(one["text"].split())[:_SHOWN]
            yield f"  {escape(one['id'])}{found}: {escape(text)}"


def _card(folder: Path) -> Any:
    file = folder / "card.json"
    try:
        card = read_json(file)
        accounted = all("account" in source for source in card["sources"])
        if accounted:
            waterfall(card)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise SpecError(
            f"{folder}: not a prepared corpus (card.json: {why})",
            hint="name the folder of a prepare stage, such as runs/NAME/corpus",
        ) from error
    if not accounted:
        raise SpecError(
            f"{folder}: its card has no account of its steps, as it was prepared before there was one",
            hint="prepare it again: `engine run SPEC --rerun STAGE`",
        )
    return card


def _style(row: Row) -> str:
    return "bold" if row.step in ("read", "kept") else ""
