"""Shows a trial as it goes on."""

from __future__ import annotations

import json
import warnings

from engine import SpecError, Terminal, write_cleaned
from engine_lm.trials.trial import CHECKS, Cell, try_model

_COLOURS = {"right": "green", "refused": "yellow", "fault": "red"}


def report(name: str, checks: tuple[str, ...], as_json: bool) -> int:
    """A line for each check; the exit status. Raises SpecError for a check that there is not."""
    for check in checks:
        if check not in CHECKS:
            raise SpecError(f"--check {check}: no such check; checks: {', '.join(CHECKS)}")
    faults = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trial says itself what is wrong
        for cell in try_model(name, checks):
            faults += cell.verdict == "fault"
            _show(cell, as_json)
    return 1 if faults else 0


def _show(cell: Cell, as_json: bool) -> None:
    if as_json:
        write_cleaned(json.dumps(cell.as_json()) + "\n")
    else:
        colour = _COLOURS[cell.verdict]
        Terminal().print(f"{cell.check:12} [{colour}]{cell.verdict:8}[/] {cell.note}")
