"""The commands ``engine corpus …``, as thin functions that import heavy modules on use."""

from __future__ import annotations

from pathlib import Path

import click

from engine import (
    allow_option,
    block_option,
    json_option,
    set_option,
    spec_argument,
    stage_argument,
)


@click.group()
def corpus() -> None:
    """Commands of the plugin corpus."""


@corpus.command()
@stage_argument
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write it as a page with plots, too; needs the extra corpus.",
)
@click.option(
    "--samples",
    type=click.IntRange(0, 20),
    default=0,
    help="Show so many of the documents that each rule has dropped.",
)
@json_option
def show(stage: Path, html: Path | None, samples: int, as_json: bool) -> None:
    """Shows what became of the documents of a prepared corpus, step by step."""
    from engine_corpus.report.show import show as shown

    shown(stage, html, samples, as_json)


@corpus.command()
@stage_argument
@click.argument("name", metavar="ID")
@json_option
def why(stage: Path, name: str, as_json: bool) -> None:
    """Shows what each step found of a document, and what became of it."""
    from engine_corpus.report.ways import why as told

    told(stage, name, as_json)


@corpus.command("try")
@spec_argument
@set_option
@click.option("--stage", metavar="STAGE", help="The prepare stage; by default the only one.")
@click.option(
    "--documents",
    type=click.IntRange(1),
    default=1000,
    help="About how many documents of each source.",
)
@click.option(
    "--samples",
    type=click.IntRange(0, 20),
    default=3,
    help="Show so many of the documents that each rule drops.",
)
@block_option
@allow_option
@json_option
def try_(
    spec: Path,
    overrides: tuple[str, ...],
    stage: str | None,
    documents: int,
    samples: int,
    blocked: tuple[str, ...],
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Shows what each step of a prepare stage would do to a sample; keeps nothing."""
    from engine import load_spec, try_corpus
    from engine_corpus.report.show import print_card

    loaded = load_spec(spec, overrides=overrides, blocked=blocked, allow=allow)
    print_card(try_corpus(loaded, stage, documents, silent=as_json), samples, as_json)


@corpus.command()
@stage_argument
def clean(stage: Path) -> None:
    """Removes what a corpus was prepared from; what training reads stays."""
    from engine_corpus.report.ways import clean as cleaned

    cleaned(stage)
