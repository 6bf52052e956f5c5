"""The commands ``engine scaling …``, as thin functions that import heavy modules on use."""

from __future__ import annotations

from pathlib import Path

import click

from engine import json_option


@click.group()
def scaling() -> None:
    """Predicts the loss of larger trainings from smaller ones."""


@scaling.command()
@click.argument(
    "paths", nargs=-1, required=True, metavar="RUNS... | FILE.csv", type=click.Path(path_type=Path)
)
@click.option(
    "--law",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the law to a file, for `engine plan --law`.",
)
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw the runs and the law to a .png, .svg or .html file.",
)
@json_option
def fit(paths: tuple[Path, ...], law: Path | None, plot: Path | None, as_json: bool) -> None:
    """Fits scaling laws to RUNS, or to a table of runs (.csv)."""
    from engine_scaling.fitting.show import fit as fitted

    fitted(paths, law, plot, as_json)


@scaling.command()
@click.argument(
    "places", metavar="RUNS... | FILE.csv", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--metric",
    metavar="NAME",
    help="Score of runs: METRIC or EVALUATOR/METRIC; by default the one that most models have.",
)
@click.option("--model", metavar="STAGE", help="Take only models of this stage.")
@click.option("--chance", metavar="SCORE", type=float, help="Score by guessing, if not logged.")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw a plot to a .png, .svg or .html file.",
)
@json_option
def emergence(
    places: tuple[Path, ...],
    metric: str | None,
    model: str | None,
    chance: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Finds the training FLOPs at which a score leaves chance.

    RUNS are runs' folders, or folders of runs. The file has columns flops, score and n (items), and may
    have name, logprob (of the right answer, in nats per token) and chance.
    """
    from engine_scaling.emergence.show import show

    show(places, metric, model, chance, plot, as_json)
