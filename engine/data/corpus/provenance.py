"""What became of every document of a prepared folder, step by step.

``provenance.json`` beside the card names the steps in their order, and the tables of each part. The
tables themselves are in ``.work/STAGE`` beside the folder, as a later preparation with other settings
goes on from them; what was prepared does not need them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from engine.data.corpus.parts import DOCUMENT, Part, whole_name
from engine.data.corpus.store import Store
from engine.errors import RunError
from engine.files.reading import read_json
from engine.files.regular import check_folder

_NAME = "provenance.json"


def work_folder(folder: Path) -> Path:
    """Where the tables are from which a folder is prepared."""
    return folder.parent / ".work" / folder.name


def plain_values(row: dict[str, Any]) -> dict[str, Any]:
    """Of a row of columns the annotations that are single values, for people to read; names that begin
    with ``_`` are the engine's own."""
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, str | int | float)
        and name not in ("text", "drop")
        and not name.startswith("_")
    }


@dataclass(frozen=True, slots=True)
class StepTaken:
    """What a step gave for a document: ``found``, its annotations; ``text``, the new text, or None;
    ``rule``, the rule that dropped it, or None."""

    step: str
    found: dict[str, Any]
    text: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentWay:
    """A document as it was read, and what the steps did to it, up to the one that dropped it."""

    id: str
    source: str
    license: str | None
    url: str | None
    text: str
    held_out: bool
    steps: tuple[StepTaken, ...]

    @property
    def outcome(self) -> str:
        """``kept``, ``held out`` or ``dropped``."""
        if self.steps and self.steps[-1].rule is not None:
            return "dropped"
        return "held out" if self.held_out else "kept"


def write_provenance(folder: Path, steps: Sequence[str], parts: Sequence[Part]) -> None:
    """Writes the file below a folder. Raises OSError."""
    told = {"steps": list(steps), "parts": [asdict(part) for part in parts]}
    (folder / _NAME).write_text(json.dumps(told), encoding="utf-8")


def document_ways(folder: Path, name: str) -> Iterator[DocumentWay]:
    """The ways of the documents with this id: one, or one for each source that has the id.

    Raises RunError for a folder without provenance, and one whose tables were removed or damaged.
    """
    steps, parts = _told(folder)
    name = whole_name(name)
    work = work_folder(folder)
    store = Store(work) if work.is_dir() else None
    gone = RunError(
        f"{work}: no longer has all documents that {folder} was made of",
        hint="`engine run SPEC --rerun STAGE` makes them again",
    )
    for part in parts:
        if store is None or not store.has(part.documents):
            raise gone
        ids = store.read_columns(part.documents, ["id"]).column("id")
        for row in pc.indices_nonzero(pc.equal(ids, name)).to_pylist():
            if not all(map(store.has, part.columns)):
                raise gone
            yield _way(store, part, steps, row)


def _told(folder: Path) -> tuple[list[str], list[Part]]:
    """The steps and parts of a finished folder."""
    file = folder / _NAME
    try:
        told = read_json(file)
        steps = [str(step) for step in told["steps"]]
        parts = [Part(**{**part, "columns": tuple(part["columns"])}) for part in told["parts"]]
    except OSError as error:
        raise RunError(
            f"{folder}: is not a finished prepare stage ({_NAME}: {error.strerror or error})",
            hint="name its folder, such as runs/NAME/corpus",
        ) from error
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunError(
            f"{file}: damaged ({error})", hint="`engine run SPEC --rerun STAGE` makes it again"
        ) from error
    return steps, parts


def _way(store: Store, part: Part, names: Sequence[str], row: int) -> DocumentWay:
    (read,) = store.read(part.documents).slice(row, 1).select(DOCUMENT.names).to_pylist()
    steps, held = [], False
    for name, key in zip(names, part.columns, strict=True):
        (found,) = store.read(key).slice(row, 1).to_pylist() or [{}]
        given = {n: v for n, v in found.items() if v is not None}
        held = held or bool(given.pop("_held", False))
        if given:
            steps.append(StepTaken(name, plain_values(given), given.get("text"), given.get("drop")))
        if "drop" in given:
            break
    named = {name: read[name] for name in ("id", "license", "url", "text")}
    source = part.name or read["source"]
    return DocumentWay(source=source, held_out=held, steps=tuple(steps), **named)


def clean_corpus(folder: Path) -> int:
    """Removes the tables that a finished folder was prepared from; returns the number of bytes freed.

    Raises RunError for a folder that is not finished, whose preparation goes on from them, and for
    tables that a link leads to.
    """
    _told(folder)
    work = work_folder(folder)
    check_folder(work.parent)
    if work.parent.is_symlink():
        raise RunError(f"{work.parent}: is a link", hint="remove what it leads to yourself")
    size = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    shutil.rmtree(work, ignore_errors=True)
    return size
