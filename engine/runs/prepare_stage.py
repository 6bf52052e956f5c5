"""A prepare stage: turns documents into shards, a tokenizer and held-out documents."""

from __future__ import annotations

from typing import Any

from engine.contracts.records import Record
from engine.contracts.spec import Prepare
from engine.data.prepare import prepare
from engine.data.steps import NamedProcessor
from engine.runs.context import RunContext
from engine.runs.lineage import heeded_as, holding_out
from engine.storage import run_folder as folders


def prepare_stage(run: RunContext, name: str, config: Prepare) -> tuple[str, dict[str, Any]]:
    """Prepares on rank 0 while the others wait; returns the status and the data card."""
    context = run.context(name)

    def elsewhere() -> dict[str, list[Record]]:
        held = (run.held_out(stage) for stage in holding_out(run.spec, name))
        return {heeded_as(records): records for records in held}

    card: dict[str, Any] = run.process.first_alone(
        lambda: prepare(
            run.folder.path / name,
            sources=[
                context.named(label, source)
                for label, source in zip(config.source_names(), config.sources, strict=True)
            ],
            processors=[
                NamedProcessor(
                    getattr(p, "type", ""),
                    run.key("processor", p),
                    run.build("processor", p, context),
                )
                for p in config.processors
            ],
            trainer=run.build("tokenizer", config.tokenizer, context),
            holdout=config.holdout,
            seed=run.spec.seed,
            progress=run.log.display.progress,
            elsewhere=elsewhere(),
        )
    )
    for source in card["sources"]:
        run.log.emit("documents", stage=name, **source)
    manifest = run.folder.path / name / "manifest.json"
    return "done", {**card, "fingerprint": folders.fingerprint(manifest)}
