"""``engine plan``."""

from __future__ import annotations

from pathlib import Path

import click

from engine import (
    allow_option,
    block_option,
    json_option,
    set_option,
)

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("spec", type=_FILE, required=False)
@set_option
@click.option(
    "--compute",
    metavar="FLOPS",
    help="Without SPEC: what this compute buys, e.g. 3640PFd (PF-days), 3.14e23 or 20EFLOPs.",
)
@click.option(
    "--parameters", multiple=True, metavar="N", help="With --compute: a size to show, e.g. 175B."
)
@click.option("--nproc", type=click.IntRange(1), default=1, help="Number of processes.")
@click.option(
    "--memory", metavar="SIZE", help="Memory of each process, e.g. 24GB; by default this machine's."
)
@click.option(
    "--device",
    metavar="NAME",
    help="Accelerator to assume, by its name in nvidia-smi or a short one such as A100-80GB.",
)
@click.option(
    "--accelerators",
    "table",
    type=_FILE,
    metavar="FILE",
    help="YAML table of more accelerators, or of other figures and prices.",
)
@click.option(
    "--speed",
    metavar="FLOPS",
    type=click.FloatRange(0, min_open=True),
    help="FLOPs per second of each process; by default measured here.",
)
@click.option("--links", metavar="SIZE", help="Bytes per second that a process sends, e.g. 50GB.")
@click.option(
    "--price",
    type=click.FloatRange(0),
    help="Price of a process per hour; by default a known accelerator's on a cloud's list.",
)
@click.option(
    "--law",
    type=_FILE,
    metavar="FILE",
    help="Law of `engine scaling fit`, for the final loss with its interval.",
)
@click.option(
    "--runs", type=_FILE, default=Path("runs"), help="Folder of runs that may have the data."
)
@block_option
@allow_option
@json_option
def plan(
    spec: Path | None,
    overrides: tuple[str, ...],
    compute: str | None,
    parameters: tuple[str, ...],
    nproc: int,
    memory: str | None,
    device: str | None,
    table: Path | None,
    speed: float | None,
    links: str | None,
    price: float | None,
    law: Path | None,
    runs: Path,
    blocked: tuple[str, ...],
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Says what SPEC will need: memory, disk, FLOPs, time, cost, energy and data."""
    from engine import FittedLaw, SpecError, load_spec
    from engine_plan.quantities import parse_count, parse_flops, parse_size
    from engine_plan.terms import Terms

    if (spec is None) == (compute is None):
        raise SpecError(
            "`engine plan` needs a SPEC or --compute" + (", not both" if spec else ""),
            hint="e.g. `engine plan specs/quickstart.yaml` or `engine plan --compute 3640PFd`",
        )
    room, sent = (None if text is None else parse_size(text) for text in (memory, links))
    fitted = None if law is None else (str(law), FittedLaw.read(law))
    terms = Terms(nproc, room, speed, sent, price, device, table, fitted, runs)
    if compute is not None:
        from engine_plan.compute import print_compute

        print_compute(parse_flops(compute), [*map(parse_count, parameters)], terms, as_json)
        return
    assert spec is not None
    if parameters:
        raise SpecError("--parameters is of no use without --compute", hint="leave it out")
    from engine_plan.report import print_plan

    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=nproc, allow=allow)
    print_plan(loaded.situation(nproc, nproc), terms, as_json)
