"""``engine plan``."""

from __future__ import annotations

from pathlib import Path

import click

from engine import (
    allow_option,
    block_option,
    json_option,
    set_option,
    spec_argument,
)


@click.command()
@spec_argument
@set_option
@click.option("--nproc", type=click.IntRange(1), default=1, help="Number of processes.")
@click.option(
    "--memory", metavar="SIZE", help="Memory of each process, e.g. 24GB; by default this machine's."
)
@click.option("--device", metavar="NAME", help="Accelerator to assume, by its name in nvidia-smi.")
@click.option(
    "--speed",
    metavar="FLOPS",
    type=click.FloatRange(0, min_open=True),
    help="FLOPs per second of each process; by default measured here.",
)
@click.option("--links", metavar="SIZE", help="Bytes per second that a process sends, e.g. 50GB.")
@click.option("--price", type=click.FloatRange(0), help="Price of a process per hour.")
@block_option
@allow_option
@json_option
def plan(
    spec: Path,
    overrides: tuple[str, ...],
    nproc: int,
    memory: str | None,
    device: str | None,
    speed: float | None,
    links: str | None,
    price: float | None,
    blocked: tuple[str, ...],
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Says what SPEC will need: memory, disk, FLOPs, time and cost."""
    from engine import load_spec
    from engine_plan.report import Terms, parse_size, print_plan

    room, sent = (None if text is None else parse_size(text) for text in (memory, links))
    terms = Terms(nproc, room, speed, sent, price, device)
    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=nproc, allow=allow)
    print_plan(loaded.situation(nproc, nproc), terms, as_json)
