"""``engine watch``."""

from __future__ import annotations

import math
from pathlib import Path

import click

from engine import json_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks at the folder.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=math.inf,
    help="Seconds without a sign of life after which to give up, with status 1; by default never.",
)
@json_option
def watch(run: Path, every: float, timeout: float, as_json: bool) -> int:
    """Shows the run in the folder RUN while it is going on. The folder need not be there yet, and may
    be on a shared disk. Ends with status 0 when the run is done, 1 when it fails or stops. Prints lines
    if standard output is no terminal, and with --json the run's events."""
    from engine_report.watch.session import watch_run

    return watch_run(run, every, timeout, as_json)
