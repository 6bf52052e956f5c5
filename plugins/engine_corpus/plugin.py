"""The components and commands that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine import Component, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """Commands that show what became of a corpus's documents."""
    from engine_corpus.commands import corpus

    return [corpus]


@hookimpl
def engine_stage_finished(verb: str, folder: str) -> None:
    """Writes the card of a prepared corpus as a page, if one of its steps says something of it and the
    extra ``corpus`` is installed."""
    if verb == "prepare":
        from engine_corpus.report.show import write_page

        write_page(Path(folder))


@hookimpl
def engine_data_sources() -> Sequence[Component]:
    """Sources of records."""
    return [
        Component(
            "html",
            "engine_corpus.collect.config:Html",
            "engine_corpus.collect.html:build",
            "Local HTML files: the text of each page, or of its main content.",
            extra="corpus",
        ),
        Component(
            "warc",
            "engine_corpus.collect.config:Warc",
            "engine_corpus.collect.warc:build",
            "Web archives (WARC, WET): the text of each page.",
            extra="corpus",
        ),
        Component(
            "git",
            "engine_corpus.collect.config:Git",
            "engine_corpus.collect.git:build",
            "The source files of a local git repository, by language.",
        ),
        Component(
            "pdf",
            "engine_corpus.collect.config:Pdf",
            "engine_corpus.collect.pdf:build",
            "Local PDF files: the text of each.",
            extra="corpus",
        ),
    ]


@hookimpl
def engine_processors() -> Sequence[Component]:
    """Processors, which judge documents one by one."""
    return [
        Component(
            "language",
            "engine_corpus.judge.rules.config:Language",
            "engine_corpus.judge.rules.language:build",
            "Detects the language of documents with CLD2; drops other languages than those to keep.",
            extra="corpus",
        ),
        Component(
            "gopher",
            "engine_corpus.judge.rules.config:Gopher",
            "engine_corpus.judge.rules.gopher:build",
            "Gopher's rules for quality and repetition.",
        ),
        Component(
            "c4",
            "engine_corpus.judge.rules.config:C4",
            "engine_corpus.judge.rules.c4:build",
            "C4's cleaning rules, which remove lines.",
        ),
        Component(
            "fineweb",
            "engine_corpus.judge.rules.config:FineWeb",
            "engine_corpus.judge.rules.fineweb:build",
            "FineWeb's own rules, over lines.",
        ),
        Component(
            "word-list",
            "engine_corpus.judge.rules.config:WordList",
            "engine_corpus.judge.rules.word_list:build",
            "Drops documents with words or phrases of a list.",
        ),
        Component(
            "mentions",
            "engine_corpus.judge.scores.config:Mentions",
            "engine_corpus.judge.scores.mentions:build",
            "Annotates which groups of words documents mention.",
            extra="corpus",
        ),
        Component(
            "pii",
            "engine_corpus.judge.scores.config:PII",
            "engine_corpus.judge.scores.pii.processor:build",
            "Masks personal data and keys: e-mail, telephone, IP and postal addresses, secrets.",
            extra="corpus",
        ),
        Component(
            "toxicity",
            "engine_corpus.judge.scores.config:Toxicity",
            "engine_corpus.judge.scores.toxicity:build",
            "Drops documents that are probably profane.",
            extra="evals",
        ),
    ]


@hookimpl
def engine_corpus_steps() -> Sequence[Component]:
    """Steps that see a whole corpus."""
    return [
        Component(
            "select",
            "engine_corpus.judge.config:Select",
            "engine_corpus.judge.select:build",
            "Keeps documents by thresholds on what earlier processors have annotated.",
        ),
        Component(
            "near-dedup",
            "engine_corpus.deduplicate.near.config:NearDedup",
            "engine_corpus.deduplicate.near.step:build",
            "Drops documents that are similar to one that stays: MinHash, then exact Jaccard.",
        ),
        Component(
            "substring-dedup",
            "engine_corpus.deduplicate.substring.config:SubstringDedup",
            "engine_corpus.deduplicate.substring.step:build",
            "Cuts long passages out of all documents but one that have them.",
        ),
        Component(
            "decontaminate",
            "engine_corpus.decontaminate.config:Decontaminate",
            "engine_corpus.decontaminate.step:build",
            "Drops documents that have items of the spec's evaluators.",
        ),
        Component(
            "classifier",
            "engine_corpus.judge.scores.config:Classifier",
            "engine_corpus.judge.scores.classifier:build",
            "Scores documents by a classifier of good and bad examples.",
            extra="corpus",
        ),
        Component(
            "quality",
            "engine_corpus.judge.scores.config:Quality",
            "engine_corpus.judge.scores.quality:build",
            "Scores documents by perplexity, diversity and safety.",
            extra="corpus",
        ),
    ]


@hookimpl
def engine_executors() -> Sequence[Component]:
    """Where a corpus is prepared."""
    return [
        Component(
            "ray",
            "engine_corpus.executors.config:Ray",
            "engine_corpus.executors.ray_tasks:build",
            "Tasks of Ray, on this machine or on a cluster.",
            extra="ray",
        ),
    ]
