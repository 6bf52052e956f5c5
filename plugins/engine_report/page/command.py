"""``engine report``."""

from __future__ import annotations

from pathlib import Path

import click

from engine import json_option


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", type=click.Path(path_type=Path))
@click.option(
    "--to",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the page goes; by default report.html, in the run's folder if there is one run.",
)
@json_option
def report(runs: tuple[Path, ...], to: Path | None, as_json: bool) -> None:
    """Writes a page about runs, which are named by their folders: curves, scores, data, spec.

    It is one file that needs no network. Of several runs it shows first where their specs differ.
    """
    from engine_report.page.report import write_report

    write_report(runs, to, as_json)
