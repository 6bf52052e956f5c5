"""Fits the runs, writes the law and the plot, and prints what is believed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from engine import RunError, SpecError, Terminal, write_durably
from engine_scaling.fitting.study import study
from engine_scaling.fitting.tables import shown
from engine_scaling.outputs import check_law
from engine_scaling.plots import check_plot
from engine_scaling.points.reading import read_points


def fit(paths: Sequence[Path], law: Path | None, plot: Path | None, as_json: bool) -> None:
    """Prints the study of runs and tables. Raises SpecError or RunError where it cannot."""
    if plot is not None:
        check_plot(plot, paths)
    if law is not None:
        check_law(law, paths)
        if plot is not None and law.resolve() == plot.resolve():
            raise SpecError(f"--law and --plot name one file: {law}", hint="name two")
    found = study(read_points(paths))
    if plot is not None:
        from engine_scaling.fitting.plot import draw

        draw(found, plot)
    if law is not None:
        try:
            write_durably(law, found.belief.law.text())
        except OSError as error:
            raise RunError(f"{law}: cannot be written: {error.strerror or error}") from error
    if as_json:
        print(json.dumps(found.as_json(), indent=2))  # noqa: T201
        return
    console = Terminal()
    for part in shown(found):
        console.print(part)
    for file, what in ((law, "law"), (plot, "plot")):
        if file is not None:
            console.print(f"{what}: {file}", markup=False, soft_wrap=True)
