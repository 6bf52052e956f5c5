"""``engine models``: which architectures were tried, and the trial of one."""

from __future__ import annotations

import click

from engine import json_option


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """What the engine does right with each architecture, and what it refuses."""
    from engine_lm.trials.report import show_table

    if context.invoked_subcommand is None:
        show_table(as_json)


@models.command()
@click.argument("name", metavar="TYPE")
def show(name: str) -> None:
    """The checks of one architecture, with the reason of each refusal."""
    from engine_lm.trials.report import show_type

    show_type(name)


@models.command(name="try")
@click.argument("name", metavar="TYPE|FOLDER")
@click.option("--check", "checks", multiple=True, help="Only this check; may be given again.")
@json_option
def try_(name: str, checks: tuple[str, ...], as_json: bool) -> None:
    """Tries a small model of an architecture: losses, scores, texts, training on two processes.

    TYPE is a model_type of transformers or of a plugin, FOLDER has a model. Takes some minutes; the
    exit status is 1 where anything is at fault.
    """
    from engine_lm.trials.report import try_it

    raise SystemExit(try_it(name, checks, as_json))
