"""The command line: each command a thin function. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from engine.errors import EngineError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="training-engine")
def cli() -> None:
    """Trains language models from one spec: data, training, evaluation; any run can be resumed."""


def main(arguments: list[str] | None = None) -> None:
    """The ``engine`` command. Status 0: done, 1: the run failed, 2: spec or command line wrong."""
    try:
        sys.exit(cli.main(args=arguments, prog_name="engine", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        sys.exit(1)
    except EngineError as error:
        click.echo(f"error: {error}" if error.exit_status == 1 else str(error), err=True)
        sys.exit(error.exit_status)


_SPEC = click.argument("spec", type=click.Path(path_type=Path))
_SET = click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field.")
_BLOCK = click.option("--no-plugin", "blocked", multiple=True, metavar="NAME", help="Block a plugin.")
_RUNS = click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the runs."
)


@cli.command()
@_SPEC
@_RUNS
@click.option("--stage", metavar="NAME", help="Only this stage.")
@_SET
@click.option("--nproc", type=click.IntRange(1), default=1, help="Processes on this machine.")
@click.option("--rerun", multiple=True, metavar="STAGE", help="Start this stage anew.")
@_BLOCK
@click.option("--json", "as_json", is_flag=True, help="Events to stdout instead of progress bars.")
def run(
    spec: Path,
    runs: Path,
    stage: str | None,
    overrides: tuple[str, ...],
    nproc: int,
    rerun: tuple[str, ...],
    blocked: tuple[str, ...],
    as_json: bool,
) -> int:
    """Runs what is missing of SPEC."""
    from engine.launch import Process, spawn
    from engine.spec import load_spec

    process = Process.from_environment()
    processes = max(nproc, process.world_size)
    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=processes)
    if nproc > 1 and process.world_size == 1:
        return spawn(nproc, sys.argv[1:])
    from engine.session import run_spec

    return run_spec(loaded, runs, process, only=stage, rerun=rerun, as_json=as_json)


@cli.command()
@_SPEC
@_SET
@click.option("--nproc", type=click.IntRange(1), default=1, help="Check for so many processes.")
@_BLOCK
def validate(spec: Path, overrides: tuple[str, ...], nproc: int, blocked: tuple[str, ...]) -> None:
    """Says everything that is wrong with SPEC."""
    from engine.spec import load_spec

    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=nproc)
    click.echo(f"{spec}: valid; stages: {', '.join(loaded.spec.order)}")


if __name__ == "__main__":
    main()
