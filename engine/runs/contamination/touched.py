"""Items of evaluators that documents have from which a model has learned."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from engine.contracts.scoring import Evaluator
from engine.contracts.spec import Spec
from engine.data.records import blaming
from engine.errors import EngineError
from engine.evaluation import Measured
from engine.runs.contamination.benchmarks import digest_of
from engine.runs.context import StageContext
from engine.runs.lineage import corpora
from engine.storage.run_folder import RunFolder


def touched_texts(folder: Path, spec: Spec, stage: str) -> frozenset[str]:
    """Digests of the items that searches have found in the corpora from which a stage's models learn,
    whether the documents were dropped for it or not."""
    found: set[str] = set()
    for prepared, _ in corpora(folder, spec, stage):
        try:
            standing = RunFolder(prepared.parent).standing(prepared.name)
        except EngineError:  # a damaged record of another run, whose model is still used
            continue
        for entry in (standing.summary.get("benchmarks") if standing else None) or ():
            found.update((entry.get("touched") or {}).values())
    return frozenset(found)


def touched_items(evaluator: Evaluator, name: str, texts: Collection[str]) -> frozenset[str]:
    """The ids of an evaluator's items whose texts are among those with these digests. Raises RunError
    where it cannot tell them."""
    if not texts:
        return frozenset()
    with blaming(f"evaluator '{name}'"):
        return frozenset(item.id for item in evaluator.texts() if digest_of(item) in texts)


def warn_of_touched(
    context: StageContext, name: str, measured: Measured, touched: Collection[str]
) -> None:
    """Warns, once, where an evaluator has no clean score, since documents have all its items."""
    if context.rank == 0 and measured.values and all(name in touched for name in measured.values):
        context.say(
            "warning",
            f"{name}: all {len(measured.values):,} items were found in documents prepared for "
            "training, so there is no score without such items",
            evaluator=name,
        )
