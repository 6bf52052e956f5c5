"""The commands ``engine corpus why`` and ``engine corpus clean``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from engine import DocumentWay, SpecError, Terminal, clean_corpus, document_ways, write_cleaned
from engine_corpus.report.sizes import size_of, values_of

_SHOWN = 400
"""Characters of a text that are shown."""


def why(folder: Path, name: str, as_json: bool) -> None:
    """Prints what became of the documents with an id. Raises SpecError if there is none, RunError if
    the tables are gone."""
    found = list(document_ways(folder, name))
    if not found:
        raise SpecError(
            f"{folder}: no document has the id '{name}'",
            hint="ids stand in the card's samples and in shards/N/documents.parquet",
        )
    if as_json:
        write_cleaned(json.dumps([{**asdict(way), "outcome": way.outcome} for way in found]))
        return
    terminal = Terminal()
    for way in found:
        for line in _lines(way):
            terminal.print(line)


def clean(folder: Path) -> None:
    """Removes the tables that a corpus was prepared from, and says what this has freed."""
    Terminal().print(f"{escape(str(folder))}: freed {size_of(clean_corpus(folder))}")


def _lines(way: DocumentWay) -> Iterator[str]:
    yield f"[bold]{escape(way.id)}[/] of {escape(way.source)}: [bold]{way.outcome}[/]"
    for name, value in (("license", way.license), ("url", way.url)):
        if value is not None:
            yield f"  {name}: {escape(value)}"
    yield f"  read: {size_of(len(way.text.encode()))}: {_excerpt(way.text)}"
    for step in way.steps:
        told = f": {escape(values_of(step.found))}" if step.found else ""
        yield f"  [bold]{escape(step.step)}[/]{told}"
        if step.text is not None:
            size = size_of(len(step.text.encode()))
            yield f"    changed the text to {size}: {_excerpt(step.text)}"
        if step.rule is not None:
            yield f"    dropped it: {escape(step.rule)}"


def _excerpt(text: str) -> str:
    return escape(json.dumps(text[:_SHOWN], ensure_ascii=False)) + ("…" if text[_SHOWN:] else "")
