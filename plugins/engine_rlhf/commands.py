"""The commands ``engine rlhf …``: thin functions that import what is heavy on use."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def rlhf() -> None:
    """Commands of the plugin rlhf."""


@rlhf.command()
@click.argument("stage", metavar="RUN/STAGE", type=click.Path(path_type=Path))
@click.option(
    "--round",
    "number",
    type=click.IntRange(1),
    help="Number of the round; the last one by default.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="How many answers to show; by default 10, with --json all.",
)
@click.option(
    "--sort",
    metavar="COLUMN",
    help="Sort by this column, the largest first; -COLUMN puts the smallest first.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each answer.")
def rollouts(
    stage: Path, number: int | None, limit: int | None, sort: str | None, as_json: bool
) -> None:
    """Shows the rollouts of a round: prompts, answers, rewards, costs, KL divergence."""
    from engine_rlhf.online.rollout_table import show

    show(stage, number, limit, sort, as_json)
