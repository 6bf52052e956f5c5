"""The commands ``engine corpus …``, as thin functions that import heavy modules on use."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def corpus() -> None:
    """Commands of the plugin corpus."""


@corpus.command()
@click.argument("folder", metavar="RUN/STAGE", type=click.Path(path_type=Path))
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write it as a page with plots, too; needs the extra corpus.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show(folder: Path, html: Path | None, as_json: bool) -> None:
    """Shows what became of the documents of a prepared corpus, step by step."""
    from engine_corpus.report.show import show as shown

    shown(folder, html, as_json)
