"""The table of what was found: a verdict for each architecture and check, and why it is refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

Verdict = Literal["right", "refused", "fault"]
CHECKS = (
    "opens counts packed masters scores writes LoRA scalar compile resume export shard tensor pipeline "
    "context expert zero"
).split()
"""In the order in which they are tried; ``scalar``: a scalar head."""
FILE = "results.json"
_UNREAD = "ENGINE_TRIAL"


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of one check; ``note``: why it is refused or wrong, else what was seen."""

    check: str
    verdict: Verdict
    note: str


Cells = Mapping[str, Cell]
"""By check."""


@dataclass(frozen=True, slots=True)
class Table:
    """What was found with this version of ``transformers``: cells by check by ``model_type``."""

    transformers: str
    types: Mapping[str, Cells]

    @classmethod
    def of(cls, transformers: str, found: Mapping[str, Iterable[Cell]]) -> Table:
        """Of trials: cells of each type."""
        return cls(transformers, {n: {c.check: c for c in found[n]} for n in sorted(found)})

    def write(self, file: Path) -> None:
        """Writes it as JSON; notes of what is right vary and are left out."""
        types = {
            name: {
                c.check: c.verdict if c.verdict == "right" else f"{c.verdict}: {c.note}"
                for c in cells.values()
            }
            for name, cells in self.types.items()
        }
        written = {"transformers": self.transformers, "types": types}
        file.write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@cache
def tried() -> Table:
    """The table that comes with this version of the engine."""
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    written: dict[str, Any] = json.loads(text)
    types = {
        name: {check: _cell(check, told) for check, told in cells.items()}
        for name, cells in written["types"].items()
    }
    return Table(written["transformers"], types)


@cache
def installed() -> str:
    """The version of the installed transformers."""
    return version("transformers")


def refusal(architecture: str, check: str) -> str | None:
    """Why the engine refuses a check of an architecture; None where it is right, or was not tried with
    the installed transformers."""
    table = tried()
    cell = table.types.get(architecture, {}).get(check)
    if cell is None or cell.verdict != "refused" or table.transformers != installed():
        return None
    return None if _UNREAD in os.environ else cell.note


def short_reason(architecture: str, cell: Cell) -> str:
    """Why a check is refused, without the name and the advice that every refusal has."""
    named = rf"^(architecture: |config: |model )?'{re.escape(architecture)}' "
    note = re.sub(named, "", cell.note).partition(", which is not supported")[0]
    return note.partition(" (architecture")[0]


@contextmanager
def unread() -> Iterator[None]:
    """A trial, whose processes are to find anew what the table says."""
    os.environ[_UNREAD] = "1"
    try:
        yield
    finally:
        del os.environ[_UNREAD]


def _cell(check: str, told: str) -> Cell:
    verdict, _, note = told.partition(": ")
    assert verdict in get_args(Verdict)
    return Cell(check, verdict, note)  # type: ignore[arg-type]
