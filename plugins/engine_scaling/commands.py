"""The commands ``engine scaling …``, as thin functions that import heavy modules on use."""

from __future__ import annotations

from pathlib import Path

import click

from engine import allow_option, block_option, json_option, set_option, spec_argument


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


@scaling.command()
@spec_argument
@click.option(
    "--budget",
    metavar="TIME",
    default="15m",
    show_default=True,
    help="Time of the runs that the law is fitted to, all together.",
)
@click.option(
    "--held-out",
    metavar="LIST",
    default="4,10,10x4",
    show_default=True,
    help="Budgets of the runs that are predicted, over the largest fitted one; x4: of four times the "
    "best width. none: only fit.",
)
@click.option(
    "--to",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of the sweep; by default sweeps/NAME.",
)
@click.option(
    "--flops", type=click.FloatRange(min=1), help="Smallest budget in FLOPs, in place of --budget."
)
@click.option(
    "--budgets",
    type=click.IntRange(2, 12),
    default=4,
    show_default=True,
    help="How many budgets, each four times the one before.",
)
@click.option(
    "--sizes", type=click.IntRange(3, 15), default=5, show_default=True, help="Sizes at a budget."
)
@click.option(
    "--lr-power",
    type=click.FloatRange(0, 2),
    default=0.5,
    show_default=True,
    help="The learning rate goes as the width to minus this power; it is SPEC's at SPEC's width.",
)
@click.option(
    "--min-steps",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Leave out what has fewer steps.",
)
@set_option
@block_option
@allow_option
@json_option
def sweep(
    spec: Path,
    budget: str,
    held_out: str,
    folder: Path | None,
    flops: float | None,
    budgets: int,
    sizes: int,
    lr_power: float,
    min_steps: int,
    overrides: tuple[str, ...],
    blocked: tuple[str, ...],
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Trains a ladder of models of several sizes, fits a law, and tests its predictions.

    SPEC has one prepare and one train stage. Budgets and sizes follow from the speed of this machine;
    held-out runs are predicted before they start. Killed, it goes on where it was.
    """
    from engine_scaling.ladder.climb import climb, held_out_of, seconds_of
    from engine_scaling.ladder.sweep import Asked

    asked = Asked(
        seconds_of(budget), held_out_of(held_out), flops, budgets, sizes, lr_power, min_steps
    )
    climb(
        spec,
        folder,
        asked,
        overrides=overrides,
        blocked=blocked,
        allow=allow,
        as_json=as_json,
    )
