"""Reads points from runs' folders and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from engine import SpecError
from engine_scaling.points.point import Found, Point, Points, some
from engine_scaling.points.runs import add_run, runs_in
from engine_scaling.points.tables import add_table


def read_points(paths: Sequence[Path]) -> Points:
    """The points of runs' folders, of folders that hold runs, and of tables (.csv).

    What is given twice counts once. Raises SpecError for what is neither, for tables that are damaged
    or cannot be read, and where tokenizers or held-out texts differ; RunError for runs that cannot be
    read.
    """
    found, named = Found(), {path.resolve() for path in paths}
    for path in paths:
        if path.suffix.lower() == ".csv":
            add_table(path, found)
            continue
        runs = runs_in(path)
        if not runs:
            raise SpecError(
                f"{path}: is neither a run, nor a folder with runs, nor a table (.csv)",
                hint="name e.g. runs/*, or a table with the columns parameters, tokens and loss",
            )
        for run in runs:
            add_run(run, found, named=run.resolve() in named)
    if len(found.lengths) > 1:
        rows = some([f"{length:,} tokens in {name}" for length, name in found.lengths.items()])
        found.notes.append(f"Rows differ ({rows}), and with them what a held-out token can see.")
    if found.repeated:
        found.notes.append(f"Given more than once, and counted once: {some(found.repeated)}.")
    if found.held_out:
        held_out = some(list(dict.fromkeys(found.held_out)))
        found.notes.append(f"Held out by their sweep, and fitted as named: {held_out}.")
    return Points(
        tuple(found.points),
        tokenizer=_one_of(found.points, "tokenizer"),
        held_out=_one_of(found.points, "held_out"),
        left_out=tuple(dict.fromkeys(found.left_out)),
        notes=tuple(dict.fromkeys(found.notes)),
    )


def _one_of(points: Iterable[Point], what: str) -> str:
    """The one fingerprint that all points with a known one have. Raises SpecError."""
    groups: dict[str, list[str]] = {}
    for point in points:
        print_ = point.tokenizer if what == "tokenizer" else point.held_out
        if print_:
            groups.setdefault(print_, []).append(point.name)
    if len(groups) > 1:
        told = some([f"{key[:12]}: {some(names)}" for key, names in groups.items()], "; ")
        plain = "tokenizers" if what == "tokenizer" else "held-out texts"
        raise SpecError(
            f"the losses were measured with different {plain} and cannot be compared: {told}",
            hint="name runs of one prepared corpus, with the same settings of perplexity",
        )
    return next(iter(groups), "")
