"""A prepare stage: turns documents into shards, a tokenizer and held-out documents."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from engine.contracts.records import Record
from engine.contracts.scoring import BenchmarkTexts
from engine.contracts.spec import Prepare
from engine.data.corpus.disk import DiskNeed, disk_need, disk_size
from engine.data.corpus.executors import Means
from engine.data.corpus.prepare import prepare
from engine.data.corpus.steps import NamedProcessor
from engine.data.epochs import effective_epochs
from engine.data.mixture import MixtureSource
from engine.data.records import NamedSource
from engine.runs.contamination.benchmarks import found_in
from engine.runs.context import RunContext
from engine.runs.lineage import heeded_as, holding_out
from engine.storage import run_folder as folders
from engine.storage.run_folder import versions

_ONLY_IN_CARD = ("processors", "samples", "mixture", "versions", "seed")


def prepare_stage(run: RunContext, name: str, config: Prepare) -> tuple[str, dict[str, Any]]:
    """Prepares on rank 0 while the others wait; returns the status and the data card."""
    context = run.context(name)

    def elsewhere() -> dict[str, list[Record]]:
        held = (run.held_out(stage) for stage in holding_out(run.spec, name))
        return {heeded_as(records): records for records in held}

    def prepared() -> dict[str, Any]:
        sources, processors, asked = stage_steps(run, name, config)
        _tell_need(run, name, disk_need(sources, len(processors)))
        with closing(run.build("executor", config.executor, context)) as executor:
            card = prepare(
                run.folder.path / name,
                sources=sources,
                processors=processors,
                trainer=run.build("tokenizer", config.tokenizer, context),
                holdout=config.holdout,
                seed=run.spec.seed,
                progress=run.log.display.progress,
                elsewhere=elsewhere(),
                means=Means(executor, config.seconds_per_document),
                more=partial(_mixture, run, config),
            )
        if asked is None:
            return card
        return {**card, "benchmarks": found_in(asked, _searches(config, card))}

    card: dict[str, Any] = run.process.first_alone(prepared)
    # The card has the rest.
    counts = [{k: v for k, v in source.items() if k != "account"} for source in card["sources"]]
    for source in counts:
        run.log.emit("documents", stage=name, **source)
    for step in card.get("processors", ()):
        for warning in step.get("warnings", ()):
            run.log.warn(f"{step['step']}: {warning}", stage=name)
    manifest = run.folder.path / name / "manifest.json"
    summary = {k: v for k, v in card.items() if k not in _ONLY_IN_CARD}
    return "done", {**summary, "sources": counts, "fingerprint": folders.fingerprint(manifest)}


def _mixture(
    run: RunContext, config: Prepare, cards: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """How the sources are mixed, with their effective epochs; the seed, and versions."""
    sources = [
        MixtureSource(card["source"], card["tokens"], one.weight, one.max_epochs)
        for card, one in zip(cards, config.sources, strict=True)
    ]
    epochs = effective_epochs(sources)
    return {
        "seed": run.spec.seed,
        "versions": versions(run.loaded),
        "mixture": [
            {
                "source": one.name,
                "weight": one.weight,
                "max_epochs": one.max_epochs,
                "epochs": epochs[one.name],
            }
            for one in sources
        ],
    }


def _tell_need(run: RunContext, name: str, need: DiskNeed | None) -> None:
    """Says how much disk is needed, and warns where less is free."""
    if need is None:
        return
    free = shutil.disk_usage(run.folder.path).free
    run.log.emit("disk", stage=name, needed=need.needed, message=f"needs {need}")
    if free < need.needed:
        run.log.warn(
            f"it needs {need}, and {disk_size(free)} are free below {run.folder.path}",
            stage=name,
        )


def stage_steps(
    run: RunContext, name: str, config: Prepare
) -> tuple[list[NamedSource], list[NamedProcessor], list[BenchmarkTexts] | None]:
    """Builds a stage's sources and processors, and gives the benchmarks that these search for; None
    where no processor searches. Raises EngineError."""
    context = run.context(name)
    named = zip(config.source_names(), config.sources, strict=True)
    sources = [context.named(label, source) for label, source in named]
    return sources, *context.processors(config.processors)


def _searches(config: Prepare, card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a card says of the steps that have searched for benchmarks."""
    names = {getattr(one, "type", "") for one in config.processors if one.searches_benchmarks}
    return [summary for summary in card.get("processors", ()) if summary["step"] in names]
