"""Arguments and options that several commands share, as click decorators."""

from __future__ import annotations

from pathlib import Path

import click

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
"""``SPEC``, the file: passed as ``spec``."""

stage_argument = click.argument("stage", metavar="RUN/STAGE", type=click.Path(path_type=Path))
"""The folder of a run's stage: passed as ``stage``, for :func:`engine.open_stage`."""

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change a field of the spec."
)
"""Changes of the spec: passed as ``overrides``, for :func:`engine.load_spec`."""

block_option = click.option(
    "--no-plugin", "blocked", multiple=True, metavar="NAME", help="Block a plugin."
)
"""Plugins that are not imported: passed as ``blocked``, for :func:`engine.load_spec`."""

allow_option = click.option(
    "--allow",
    multiple=True,
    metavar="WORD",
    help="Allow what a spec may not do by itself: network=HOST, secret=NAME@HOST, code, files. "
    "versions: resume with other versions than the checkpoint's, not bit-identical. memory: start a "
    "run that seems not to fit. ENGINE_ALLOW takes the same words.",
)
"""What the user allows the spec: passed as ``allow``, for :func:`engine.load_spec`."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""Whether the output is JSON: passed as ``as_json``."""
