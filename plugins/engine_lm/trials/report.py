"""Shows a trial as it goes on, and the table of all trials."""

from __future__ import annotations

import json
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import asdict

from engine import SpecError, Terminal, write_cleaned
from engine_lm.architectures import known, unknown
from engine_lm.trials import table
from engine_lm.trials.table import CHECKS, Cell

_COLOURS = {"right": "green", "refused": "yellow", "fault": "red"}
_NOT_TRIED = "not tried; `engine models try TYPE` does"


def try_it(name: str, wanted: tuple[str, ...], as_json: bool) -> int:
    """A line for each check; the exit status. Raises SpecError for a check that there is not."""
    for check in wanted:
        if check not in CHECKS:
            raise SpecError(f"--check {check}: no such check; checks: {', '.join(CHECKS)}")
    from engine_lm.trials.trial import try_model

    faults = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trial says itself what is wrong
        for cell in try_model(name, wanted):
            faults += cell.verdict == "fault"
            _show(cell, as_json)
    return 1 if faults else 0


def show_table(as_json: bool) -> None:
    """Every architecture of the installed transformers, with what is right and what is refused."""
    found = table.tried()
    if as_json:
        cells = {
            name: list(map(asdict, found.types[name].values()))
            for name in _names()
            if name in found.types
        }
        write_cleaned(json.dumps({"transformers": found.transformers, "types": cells}) + "\n")
        return
    terminal = Terminal()
    terminal.print(
        f"Tried with transformers {found.transformers}; {table.installed()} is installed."
    )
    for name in _names():
        line = f"{name:24} {_summary(name, found.types.get(name, {}))}"
        terminal.print(textwrap.fill(line, 80, subsequent_indent=" " * 25))


def show_type(name: str) -> None:
    """The checks of one architecture. Raises SpecError for one that was not tried."""
    cells = table.tried().types.get(name)
    if cells is None and (wrong := unknown(name)):
        raise SpecError(wrong)
    if cells is None:
        raise SpecError(f"'{name}' was {_NOT_TRIED.replace('TYPE', name)}")
    for cell in cells.values():
        _show(cell, as_json=False)


def _summary(name: str, cells: table.Cells) -> str:
    """What was found of an architecture, in a few words."""
    if not cells:
        return _NOT_TRIED
    opens = cells.get("opens")
    if opens and opens.verdict != "right":
        return f"{opens.verdict}: {table.short_reason(name, opens)}"
    others = [f"{verdict}: {', '.join(_with(cells, verdict))}" for verdict in ("refused", "fault")]
    return "; ".join(["right", *(text for text in others if not text.endswith(": "))])


def _with(cells: table.Cells, verdict: str) -> Iterator[str]:
    return (cell.check for cell in cells.values() if cell.verdict == verdict)


def _names() -> list[str]:
    return sorted(known() | set(table.tried().types))


def _show(cell: Cell, as_json: bool) -> None:
    if as_json:
        write_cleaned(json.dumps(asdict(cell)) + "\n")
    else:
        colour = _COLOURS[cell.verdict]
        Terminal().print(f"{cell.check:9} [{colour}]{cell.verdict:8}[/] {cell.note}")
