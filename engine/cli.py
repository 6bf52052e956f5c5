"""The command line: each command a thin function. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import click

from engine import terminal
from engine.errors import EngineError


class _WithPluginCommands(click.Group):
    """Our commands, and one group of commands for each plugin that brings some."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(dict.fromkeys([*super().list_commands(ctx), *sorted(_plugin_groups())]))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or _plugin_groups().get(name)


def _plugin_groups() -> dict[str, click.Group]:
    from engine.plugins import Plugins

    return Plugins.discover().commands()


@click.group(cls=_WithPluginCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="training-engine")
def cli() -> None:
    """Trains language models from one spec: data, training, evaluation; any run can be resumed."""


def main(arguments: list[str] | None = None) -> None:
    """The ``engine`` command. Status 0: done, 1: the run failed, 2: spec or command line wrong."""
    terminal.prepare()
    status = _status(arguments)
    if wrong := terminal.finish():
        _complain(f"error: standard output: cannot be written: {wrong}")
        status = status or 1
    sys.exit(status)


def _status(arguments: list[str] | None) -> int:
    try:
        return cli.main(args=arguments, prog_name="engine", standalone_mode=False) or 0
    except click.ClickException as error:
        told = io.StringIO()
        error.show(told)
        _complain(told.getvalue().rstrip("\n"))
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 1
    except EngineError as error:
        _complain(str(error) if error.exit_status == 2 else f"error: {error}")
        return error.exit_status
    except OSError as error:  # what the commands open, they check, and output has no name
        where = error.filename
        if where is None:
            where = "standard output: cannot be written"
            terminal.discard(sys.stdout)  # what waits there would fail once more
        _complain(f"error: {where}: {error.strerror or error}")
        return 1


def _complain(message: str) -> None:
    """To standard error, if it takes it."""
    with contextlib.suppress(OSError):
        _say(message, error=True)


def _say(text: str, *, error: bool = False, end: str = "\n") -> None:
    terminal.write(text + end, error=error)


_SPEC = click.argument("spec", type=click.Path(path_type=Path))
_STAGE = click.argument("stage", metavar="RUN/STAGE", type=click.Path(path_type=Path))
_SET = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field."
)
_BLOCK = click.option(
    "--no-plugin", "blocked", multiple=True, metavar="NAME", help="Block a plugin."
)
_RUNS = click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the runs."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")
_ALLOW = click.option(
    "--allow",
    multiple=True,
    metavar="WORD",
    help="network=HOST, secret=NAME@HOST, code, files: what a spec may not do by itself. versions: "
    "resume with others than the checkpoint's, not bit-identical. memory: start what seems not to "
    "fit. ENGINE_ALLOW holds the same words.",
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
@_ALLOW
@click.option(
    "--deterministic", is_flag=True, help="Deterministic kernels, where there is a choice."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600.0,
    help="Seconds without a sign of life after which a process counts as lost.",
)
@click.option(
    "--restarts",
    type=click.IntRange(0),
    default=0,
    help="How often the processes start anew when one is lost (with --nproc).",
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
    """Runs what is missing of SPEC."""
    from engine.launch import Process, spawn
    from engine.spec import load_spec

    process = Process.from_environment()
    processes = max(nproc, process.world_size)
    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=processes, allow=allow)
    if not loaded.permissions.allows("memory"):
        from engine.fitting import check_memory

        check_memory(loaded, runs, processes, here=max(nproc, process.local_world_size), only=stage)
    if nproc > 1 and process.world_size == 1:
        return spawn(nproc, sys.argv[1:], restarts)
    from engine.session import run_spec

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
    )


@cli.command()
@_SPEC
@_SET
@click.option("--nproc", type=click.IntRange(1), default=1, help="Check for so many processes.")
@_BLOCK
@_ALLOW
def validate(
    spec: Path,
    overrides: tuple[str, ...],
    nproc: int,
    blocked: tuple[str, ...],
    allow: tuple[str, ...],
) -> None:
    """Says everything that is wrong with SPEC, and what it reads outside its folder."""
    from engine.lineage import unequal
    from engine.spec import load_spec

    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=nproc, allow=allow)
    for message in unequal(loaded.spec):
        _say(f"warning: {message}", error=True)
    for message in loaded.outside():
        _say(f"reads outside the spec's folder: {message}", error=True)
    _say(f"{spec}: valid; stages: {', '.join(loaded.spec.order)}")


@cli.command()
@_SPEC
@_SET
@click.option("--nproc", type=click.IntRange(1), default=1, help="Processes in all.")
@click.option("--memory", metavar="SIZE", help="Of each process, e.g. 24GB, not as found here.")
@click.option(
    "--device", metavar="NAME", help="An accelerator, as nvidia-smi names it, not what is here."
)
@click.option(
    "--speed",
    metavar="FLOPS",
    type=click.FloatRange(0, min_open=True),
    help="A second that a process executes, not as measured here.",
)
@click.option("--links", metavar="SIZE", help="That a process sends in a second, e.g. 50GB.")
@click.option("--price", type=click.FloatRange(0), help="Of a process, an hour.")
@_BLOCK
@_ALLOW
@_JSON
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
    from engine.outlook import Terms, parse_size, print_plan
    from engine.spec import load_spec

    room, sent = (None if text is None else parse_size(text) for text in (memory, links))
    terms = Terms(nproc, room, speed, sent, price, device)
    loaded = load_spec(spec, overrides=overrides, blocked=blocked, processes=nproc, allow=allow)
    print_plan(loaded, terms, as_json)


@cli.command()
@_RUNS
@_JSON
def runs(runs: Path, as_json: bool) -> None:
    """Lists the runs in a folder and how they stand."""
    from engine.listing import print_runs

    print_runs(runs, as_json)


@cli.command()
@_JSON
@click.option(
    "--check", is_flag=True, help="Import every config and factory; status 1 if one fails."
)
@click.option("--reference", metavar="NAME", help="A plugin's components and fields, as Markdown.")
def plugins(as_json: bool, check: bool, reference: str | None) -> int:
    """Lists the installed plugins and their components."""
    if reference is not None:
        from engine.reference import plugin_reference

        _say(plugin_reference(reference), end="")
        return 0
    from engine.listing import print_plugins

    return print_plugins(as_json, check)


@cli.command()
@click.option("--plugin", "names", multiple=True, metavar="NAME", help="With this plugin only.")
def schema(names: tuple[str, ...]) -> None:
    """Prints the JSON schema of specs, for editors."""
    from engine.listing import print_schema

    print_schema(names)


@cli.command()
@_STAGE
@click.option("--prompt", required=True, help="Text to go on from.")
@click.option("--max-tokens", type=click.IntRange(1), default=200, help="Longest answer.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.8, help="0: the likeliest token."
)
@click.option("--top-p", type=click.FloatRange(0, 1), default=0.95, help="Nucleus.")
@click.option("--stop", multiple=True, help="Text that ends the answer.")
@click.option("--seed", type=int, default=0, help="Another seed, another answer.")
@_JSON
def generate(stage: Path, as_json: bool, **request: Any) -> None:
    """Lets the model of a stage go on from a text."""
    from engine.talk import generate as go_on

    go_on(stage, as_json, **request)


@cli.command()
@_STAGE
@click.option("--max-tokens", type=click.IntRange(1), default=300, help="Longest answer.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.8, help="0: the likeliest token."
)
@click.option("--seed", type=int, default=0, help="Another seed, another answer.")
def chat(stage: Path, max_tokens: int, temperature: float, seed: int) -> None:
    """Talks with the model of a stage."""
    from engine.talk import chat as talk

    talk(stage, max_tokens, temperature, seed)


@cli.command()
@_STAGE
@click.option("--samples", type=click.IntRange(1), default=3, help="How many rows.")
@click.option("--start", type=click.IntRange(0), default=0, help="First row, in training's order.")
@_ALLOW
@_JSON
def data(stage: Path, samples: int, start: int, allow: tuple[str, ...], as_json: bool) -> None:
    """Shows rows as the model sees them; the tokens that count in the loss are in colour."""
    from engine.talk import show_rows

    show_rows(stage, samples, start, as_json, allow)


@cli.command()
@_STAGE
@click.argument("folder", type=click.Path(path_type=Path))
def export(stage: Path, folder: Path) -> None:
    """Copies a stage's model to FOLDER, with a model card."""
    from engine.listing import export_model

    export_model(stage, folder)
    _say(f"{folder}: opens with transformers' Auto classes")


@cli.command("new-plugin")
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path), default=Path(), help="Folder to put it in.")
def new_plugin(name: str, to: Path) -> None:
    """Writes a plugin's package that installs and passes its tests as it is."""
    from engine.scaffold import write_plugin

    folder = write_plugin(name, to)
    _say(f"{folder}: now `pip install -e {folder}` and `pytest {folder}`")


@cli.command("verify-resume")
@_SPEC
@_SET
@click.option("--steps", type=click.IntRange(4), default=8, help="Steps of each train stage.")
@click.option("--kills", type=click.IntRange(1), default=2, help="How often the run is killed.")
@click.option("--nproc", type=click.IntRange(1), default=1, help="Processes on this machine.")
@_ALLOW
def verify_resume(
    spec: Path,
    overrides: tuple[str, ...],
    steps: int,
    kills: int,
    nproc: int,
    allow: tuple[str, ...],
) -> int:
    """Kills and resumes SPEC at a small size; compares the weights with an unbroken run's."""
    from engine.verify import verify_resume as verify

    return verify(spec, overrides, steps, kills, nproc, allow)


if __name__ == "__main__":
    main()
