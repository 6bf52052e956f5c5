"""The command line: each command is a thin function that imports heavy modules only when needed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import (
    allow_option,
    block_option,
    json_option,
    set_option,
    spec_argument,
)
from engine.errors import EngineError
from engine.terminal import output as terminal

if TYPE_CHECKING:
    from engine.storage.run_folder import RunFolder


_COMMANDS = "engine.cli.plugin_commands"


class _WithPluginCommands(click.Group):
    """The engine's own commands and those of plugins, groups last. Of two with the same name the
    engine's own is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = {**_plugin_commands(ctx), **self.commands}
        return sorted(found, key=lambda name: (isinstance(found[name], click.Group), name))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or _plugin_commands(ctx).get(name)


def _plugin_commands(ctx: click.Context) -> dict[str, click.Command]:
    """Those of the installed plugins, which one run of the command line looks for once."""
    if _COMMANDS not in ctx.meta:
        from engine.registry import Plugins

        ctx.meta[_COMMANDS] = Plugins.discover().commands()
    found: dict[str, click.Command] = ctx.meta[_COMMANDS]
    return found


@click.group(cls=_WithPluginCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="training-engine")
def cli() -> None:
    """Trains language models from one spec: data, training, evaluation; any run can be resumed."""


def main(arguments: list[str] | None = None) -> None:
    """The ``engine`` command. Status 0: done, 1: the run failed, 2: spec or command line wrong."""
    terminal.prepare()
    # No Python started from here, such as torch's compiler, imports files from beside a spec.
    os.environ["PYTHONSAFEPATH"] = "1"
    status = _status(arguments)
    if wrong := terminal.finish():
        _complain(f"error: standard output: cannot be written: {wrong}")
        status = status or 1
    sys.exit(status)


def _status(arguments: list[str] | None) -> int:
    try:
        return cli.main(args=arguments, prog_name="engine", standalone_mode=False) or 0
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        _complain(message.getvalue().rstrip("\n"))
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 1
    except EngineError as error:
        _complain(str(error) if error.exit_status == 2 else f"error: {error}")
        return error.exit_status
    except OSError as error:  # errors of standard output name no file
        where = error.filename
        if where is None:
            where = "standard output: cannot be written"
            terminal.discard(sys.stdout)  # buffered output would fail again
        _complain(f"error: {where}: {error.strerror or error}")
        return 1


def _complain(message: str) -> None:
    """Writes to standard error, ignoring a failure to do so."""
    with contextlib.suppress(OSError):
        _say(message, error=True)


def _say(text: str, *, error: bool = False, end: str = "\n") -> None:
    terminal.write_cleaned(text + end, error=error)


_RUNS = click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the runs."
)


@cli.command()
@spec_argument
@_RUNS
@click.option("--stage", metavar="NAME", help="Run only this stage.")
@set_option
@click.option("--nproc", type=click.IntRange(1), default=1, help="Processes on this machine.")
@click.option("--rerun", multiple=True, metavar="STAGE", help="Start this stage over.")
@block_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print events as JSON instead of progress bars."
)
@allow_option
@click.option(
    "--deterministic", is_flag=True, help="Use deterministic kernels where there is a choice."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600.0,
    help="Seconds without a heartbeat after which a process counts as lost.",
)
@click.option(
    "--restarts",
    type=click.IntRange(0),
    default=0,
    help="How often to restart all processes when one is lost (with --nproc).",
)
def run(
    spec: Path,
    runs: Path,
    stage: str | None,
    overrides: tuple[str, ...],
    nproc: int,
    rerun: tuple[str, ...],
    blocked: tuple[str, ...],
    as_json: bool,
    allow: tuple[str, ...],
    deterministic: bool,
    timeout: float,
    restarts: int,
) -> int:
    """Runs the stages of SPEC that are not yet done."""
    from engine.processes.process import Process, spawn
    from engine.runs.precheck import check_run
    from engine.spec.loading import load_spec

    process = Process.from_environment()
    processes = max(nproc, process.world_size)
    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=processes, allow=allow)
    check_run(loaded, runs, processes, max(nproc, process.local_world_size), only=stage)
    if nproc > 1 and process.world_size == 1:
        return spawn(nproc, sys.argv[1:], restarts)
    from engine.cli.summary import print_summary
    from engine.runs.session import run_spec

    def summarise(folder: RunFolder, status: str) -> None:
        if not as_json:
            print_summary(folder, loaded.spec, status)

    process.tune(deterministic=deterministic)
    return run_spec(
        loaded,
        runs,
        process,
        only=stage,
        rerun=rerun,
        as_json=as_json,
        inexact=loaded.permissions.allows("versions"),
        timeout=timeout,
        at_end=summarise,
    )


@cli.command()
@spec_argument
@set_option
@click.option("--nproc", type=click.IntRange(1), default=1, help="Processes to check for.")
@block_option
@allow_option
def validate(
    spec: Path,
    overrides: tuple[str, ...],
    nproc: int,
    blocked: tuple[str, ...],
    allow: tuple[str, ...],
) -> None:
    """Reports every error in SPEC, and what it reads outside its folder."""
    from engine.runs.lineage import equal_again, unequal, unsearched
    from engine.spec.loading import load_spec

    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=nproc, allow=allow)
    for message in unequal(loaded.spec):
        _say(f"warning: {message}", error=True)
    for message in chain(unsearched(loaded.spec), equal_again(loaded.spec)):
        _say(f"notice: {message}", error=True)
    for message in loaded.outside():
        _say(f"reads outside the spec's folder: {message}", error=True)
    _say(f"{spec}: valid; stages: {', '.join(loaded.spec.order)}")


@cli.command()
@_RUNS
@json_option
def runs(runs: Path, as_json: bool) -> None:
    """Lists the runs in a folder with the status of their stages."""
    from engine.cli.listings import print_runs

    print_runs(runs, as_json)


@cli.command()
@json_option
@click.option(
    "--check", is_flag=True, help="Check each plugin's declarations; exit with 1 if one is wrong."
)
@click.option(
    "--reference", metavar="NAME", help="Print a plugin's components and fields as Markdown."
)
def plugins(as_json: bool, check: bool, reference: str | None) -> int:
    """Lists the installed plugins and their components."""
    if reference is not None:
        from engine.testing.reference import plugin_reference

        _say(plugin_reference(reference), end="")
        return 0
    from engine.cli.listings import print_plugins

    return print_plugins(as_json, check)


@cli.command()
@click.option("--plugin", metavar="NAME", help="Only this plugin's components.")
def schema(plugin: str | None) -> None:
    """Prints the JSON schema of specs, for editors."""
    from engine.cli.listings import print_plugin_schema, print_schema

    if plugin is None:
        print_schema()
    else:
        print_plugin_schema(plugin)
