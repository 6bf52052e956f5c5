"""What the evaluators of a spec ask, for processors that search documents for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain, count
from typing import Any, Protocol

from engine.contracts.component import Kind
from engine.contracts.component_config import EvaluatorConfig
from engine.contracts.config import Config
from engine.contracts.references import references
from engine.contracts.scoring import BenchmarkTexts, ItemTexts
from engine.contracts.spec import Spec
from engine.data.corpus.store import key_of
from engine.data.records import blaming
from engine.errors import EngineError
from engine.runs.lineage import benchmarks
from engine.spec.identity import identity_fields

_WHEN = ("every", "limit")
"""Fields of an evaluator that do not change what it may ask."""


class Builder(Protocol):
    """A run that can build the components of its spec."""

    @property
    def spec(self) -> Spec:
        """Its spec."""

    def build(self, kind: Kind, config: Config, context: Any) -> Any:
        """Builds a component."""

    def context(self, stage: str) -> Any:
        """The context for factories of a stage."""


def benchmark_texts(run: Builder) -> list[BenchmarkTexts]:
    """The texts of all benchmarks of a run's spec; those with the same items once. Raises EngineError,
    such as for rows that are missing."""
    asked: dict[str, BenchmarkTexts] = {}
    built = set()
    for stage, config in benchmarks(run.spec):
        fields = {n: v for n, v in identity_fields(config).items() if n not in _WHEN}
        if key_of(fields) in built:
            continue
        built.add(key_of(fields))
        items = _items(run, stage, config)
        name = _free(config.name or config.type_name, [other.name for other in asked.values()])
        asked.setdefault(key_of(_plain(items) or name), BenchmarkTexts(name, items))
    return list(asked.values())


def told(asked: Sequence[BenchmarkTexts]) -> list[dict[str, Any]]:
    """Benchmarks by name, number of items and a digest of their texts, for a stage's record."""
    return [
        {"benchmark": one.name, "items": len(one.items), "digest": key_of(_plain(one.items))}
        for one in asked
    ]


def found_in(
    asked: Sequence[BenchmarkTexts], summaries: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """As :func:`told`, with the items that documents have, by the ``summaries`` of the steps that have
    searched them: ``touched``, the digest of each item's texts by its id."""
    entries = []
    for entry, benchmark in zip(told(asked), asked, strict=True):
        ids: set[str] = set()
        for summary in summaries:
            found = summary.get("benchmarks", {}).get(benchmark.name, {})
            ids.update(found.get("touched", ()), found.get("passages", {}).get("touched", ()))
        touched = {one.id: digest_of(one) for one in benchmark.items if one.id in ids}
        entries.append({**entry, "touched": touched})
    return entries


def digest_of(item: ItemTexts) -> str:
    """The digest of an item's texts, whatever its id."""
    return key_of(item.question, item.answer, item.passage)


def _items(run: Builder, stage: str, config: EvaluatorConfig) -> tuple[ItemTexts, ...]:
    """An evaluator's texts; none of one that can only be built once there is a model."""
    if any(references(config)):
        return ()
    try:
        evaluator = run.build("evaluator", config, run.context(stage))
    except EngineError:
        raise
    except Exception:  # a factory may ask for a tokenizer, which there is not yet
        return ()
    with blaming(f"evaluator '{config.type_name}'"):
        return tuple(evaluator.texts())


def _plain(items: Sequence[ItemTexts]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]


def _free(name: str, taken: Sequence[str]) -> str:
    """The name, numbered where another benchmark has it."""
    numbered = (f"{name}-{number}" for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)
