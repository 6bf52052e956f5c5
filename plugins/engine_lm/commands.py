"""``engine models``: which architectures were tried, and the trial of one."""

from __future__ import annotations

import click

from engine import json_option


@click.group()
def models() -> None:
    """What the engine does right with an architecture, and what it refuses."""


@models.command(name="try")
@click.argument("name", metavar="TYPE|FOLDER")
@click.option("--check", "checks", multiple=True, help="Only this check; may be given again.")
@json_option
def try_(name: str, checks: tuple[str, ...], as_json: bool) -> None:
    """Tries a small model of an architecture: losses, scores, texts, training on two processes.

    TYPE is a model_type of transformers, FOLDER has a model. Takes some minutes; the exit status is 1
    where anything is at fault.
    """
    from engine_lm.trials.report import report

    raise SystemExit(report(name, checks, as_json))
