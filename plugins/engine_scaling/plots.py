"""Saves plots that Vega-Altair describes, without a browser and without a network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine import RunError, SpecError, write_durably
from engine_scaling.outputs import check_output

if TYPE_CHECKING:
    import altair as alt

_KINDS = (".png", ".svg", ".html")
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{0}</title>
<h1>{0}</h1>
{1}
</html>
"""


def check_plot(file: Path, inputs: Iterable[Path]) -> None:
    """Raises SpecError for a kind of file that is not drawn and for one of the inputs, RunError if a
    library is missing."""
    check_output("--plot", file, inputs)
    if file.suffix.lower() not in _KINDS:
        raise SpecError(
            f"--plot {file}: cannot draw '{file.suffix}'", hint="name a .png, .svg or .html"
        )
    missing = [name for name in ("altair", "vl_convert") if find_spec(name) is None]
    if missing:
        raise RunError(f"a plot needs {missing[0]}", hint="pip install 'training-engine[scaling]'")


def logarithmic(field: str, title: str) -> alt.X:
    """A logarithmic axis from the first to the last value, with labels as powers of ten."""
    import altair as alt

    axis = alt.Axis(format=".0e", labelOverlap=True)
    return alt.X(field, title=title, scale=alt.Scale(type="log", nice=False), axis=axis)


def save_plot(chart: alt.TopLevelMixin, file: Path, title: str) -> None:
    """Draws a chart to a file of a kind that was checked. Raises RunError if it cannot be written.

    A page holds the drawing alone: no script, so that no name in it can be one.
    """
    import vl_convert

    specification = json.dumps(chart.to_dict())
    drawn: str | bytes
    if file.suffix.lower() == ".png":
        drawn = vl_convert.vegalite_to_png(specification, scale=2)
    else:
        drawn = vl_convert.vegalite_to_svg(specification)
        if file.suffix.lower() == ".html":
            drawn = _PAGE.format(html.escape(title), drawn)
    try:
        write_durably(file, drawn)
    except OSError as error:
        raise RunError(f"{file}: cannot be written: {error.strerror or error}") from error
