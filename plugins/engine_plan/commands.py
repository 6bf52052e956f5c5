"""``engine plan``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from engine import SpecError, allow_option, block_option, json_option, set_option
from engine_plan.quantities import parse_count, parse_flops, parse_size

_FILE = click.Path(path_type=Path)
_OF_A_SPEC = ("overrides", "memory", "links", "runs", "blocked", "allow")
"""Parameters of the command that mean nothing without a spec."""


class _Quantity(click.ParamType):  # type: ignore[type-arg]  # generic only in later versions
    """A number with a unit."""

    name = "text"

    def __init__(self, parse: Callable[[str], float]) -> None:
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return self._parse(value)
        except SpecError as error:
            self.fail(str(error), param, ctx)


class _Range(click.FloatRange):
    """A range in which "nan" is none of the numbers."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"'{value}' is no number.", param, ctx)
        return number


@click.command()
@click.argument("spec", type=_FILE, required=False)
@set_option
@click.option(
    "--compute",
    type=_Quantity(parse_flops),
    metavar="FLOPS",
    help="Without SPEC: what this compute buys, e.g. 3640PFd (PF-days), 3.14e23 or 20EFLOPs.",
)
@click.option(
    "--parameters",
    type=_Quantity(parse_count),
    multiple=True,
    metavar="N",
    help="With --compute: a size to show, e.g. 175B.",
)
@click.option("--nproc", type=click.IntRange(1), default=1, help="Number of processes.")
@click.option(
    "--memory",
    type=_Quantity(parse_size),
    metavar="SIZE",
    help="Memory of each process, e.g. 24GB; by default this machine's.",
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
    type=_Range(1, 1e30),
    help="FLOPs per second of each process; by default measured here.",
)
@click.option(
    "--links",
    type=_Quantity(parse_size),
    metavar="SIZE",
    help="Bytes per second that a process sends, e.g. 50GB.",
)
@click.option(
    "--price",
    type=_Range(0, 1e30),
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
    compute: float | None,
    parameters: tuple[float, ...],
    nproc: int,
    memory: float | None,
    device: str | None,
    table: Path | None,
    speed: float | None,
    links: float | None,
    price: float | None,
    law: Path | None,
    runs: Path,
    blocked: tuple[str, ...],
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Says what SPEC will need: memory, disk, FLOPs, time, cost, energy and data."""
    from engine import FittedLaw, load_spec
    from engine_plan.terms import Terms

    if (spec is None) == (compute is None):
        raise SpecError(
            "`engine plan` needs a SPEC or --compute" + (", not both" if spec else ""),
            hint="e.g. `engine plan specs/quickstart.yaml` or `engine plan --compute 3640PFd`",
        )
    if spec is None:
        _refuse_without_spec(click.get_current_context())
    fitted = None if law is None else (str(law), FittedLaw.read(law))
    terms = Terms(nproc, memory, speed, links, price, device, table, fitted, runs)
    if compute is not None:
        from engine_plan.compute import print_compute

        print_compute(compute, parameters, terms, as_json)
        return
    assert spec is not None
    if parameters:
        raise SpecError("--parameters is of no use without --compute", hint="leave it out")
    from engine_plan.report import print_plan

    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=nproc, allow=allow)
    print_plan(loaded.situation(nproc, nproc), terms, as_json)


def _refuse_without_spec(context: click.Context) -> None:
    """Raises SpecError for an option that would be without effect."""
    for one in context.command.params:
        source = context.get_parameter_source(one.name or "")
        if one.name in _OF_A_SPEC and source is click.core.ParameterSource.COMMANDLINE:
            raise SpecError(f"{one.opts[-1]} is of no use with --compute", hint="leave it out")
