"""The commands ``engine rlhf …``, each a thin function; nothing heavy is imported before use."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("stage", metavar="RUN/STAGE", type=click.Path(path_type=Path))
@click.option("--round", "number", type=click.IntRange(1), help="Without it, the last one.")
@click.option(
    "--limit", type=click.IntRange(1), help="How many answers; without it 10, with --json all."
)
@click.option("--sort", metavar="COLUMN", help="The largest first; with - before it, the smallest.")
@click.option("--json", "as_json", is_flag=True, help="For machines: a row on each line.")
def rollouts(
    stage: Path, number: int | None, limit: int | None, sort: str | None, as_json: bool
) -> None:
    """Shows what the model answered in a round: prompts, answers, rewards, costs, divergence."""
    from engine_rlhf.rollouts import show

    show(stage, number, limit, sort, as_json)
