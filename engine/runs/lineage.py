"""The corpora that a stage's model learns from, through all its stages, and what these hold out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from engine.contracts.component_config import EvaluatorConfig
from engine.contracts.records import Record
from engine.contracts.references import references
from engine.contracts.spec import Prepare, Spec, Train
from engine.data.holdout import digest_of
from engine.errors import EngineError
from engine.files.reading import read_json
from engine.spec.loading import RESOLVED, load_resolved


def ancestors(spec: Spec) -> dict[str, list[str]]:
    """For each stage all those that it depends on, directly or not, in the spec's order."""
    found: dict[str, set[str]] = {}
    for name in spec.order:
        direct = spec.dependencies(name)
        found[name] = set(direct).union(*(found[other] for other in direct))
    place = {name: number for number, name in enumerate(spec.order)}
    return {name: sorted(others, key=lambda o: place[o]) for name, others in found.items()}


def unequal(spec: Spec) -> Iterator[str]:
    """Warnings for pairs of stages, one depending on the other, that hold out different shares.

    Stages on records share prompts. With a prepared corpus they share groups and texts, so a stage that
    holds nothing out, as by default, is compared with one only if it reads texts.
    """
    for name, others in ancestors(spec).items():
        own = _of_records(spec, name)
        for other in others if own else ():
            prepared = spec.stages[other].prepare
            given: Train | Prepare | None = prepared or _of_records(spec, other)
            if own is None or given is None or own.holdout == given.holdout:
                continue
            if prepared and not (given.holdout and (own.holdout or _of_texts(own))):
                continue
            more, less = (name, other) if own.holdout > given.holdout else (other, name)
            yield (
                f"'{name}' holds out {own.holdout:.3g} of its records, and '{other}', on which it "
                f"depends, {given.holdout:.3g}: of what both read, '{less}' trains on some that "
                f"'{more}' holds out; give both the same `holdout`"
            )


def benchmarks(spec: Spec) -> Iterator[tuple[str, EvaluatorConfig]]:
    """The evaluators of all stages, with the stage's name, but for those that score held-out records,
    which no stage trains on, and those without items that could be known, such as samples."""
    for name in spec.order:
        stage = spec.stages[name]
        evaluators = stage.train.evaluate if stage.train else ()
        evaluators = stage.evaluate.evaluators if stage.evaluate else evaluators
        for config in evaluators:
            if config.asks_known_items and not config.held_out:
                yield name, config


def unsearched(spec: Spec) -> Iterator[str]:
    """Notices of prepare stages that do not search their documents for what the spec's evaluators
    ask."""
    names = dict.fromkeys(config.type_name for _, config in benchmarks(spec))
    for name in spec.order if names else ():
        prepared = spec.stages[name].prepare
        if prepared and not any(one.searches_benchmarks for one in prepared.processors):
            yield (
                f"'{name}' does not search its documents for items of {', '.join(names)}: list "
                "`decontaminate` among its processors"
            )


def equal_again(spec: Spec) -> Iterator[str]:
    """Notices of processors that replace texts after copies were removed, so that documents may become
    copies, and one that is held out may have a copy that is trained on."""
    for name in spec.order:
        prepared = spec.stages[name].prepare
        removed = ""
        for one in prepared.processors if prepared else ():
            label = getattr(one, "type", "")
            if one.removes_copies:
                removed = label
            elif removed and one.changes_texts():
                yield (
                    f"'{name}': `{label}` replaces texts after `{removed}` has removed copies, so "
                    f"documents may become equal: list `{label}` before it"
                )


def holding_out(spec: Spec, prepared: str) -> list[str]:
    """Train stages that depend on a prepare stage and hold out records which do not come from it."""
    descending = [name for name, others in ancestors(spec).items() if prepared in others]
    found = ((name, _of_records(spec, name)) for name in descending)
    return [n for n, t in found if t and t.holdout and not any(references(t.data))]


def heeded_as(records: Sequence[Record]) -> str:
    """The digest by which a corpus's card names held-out records that were left out of it."""
    digests = sorted({digest_of(record) for record in records})
    return blake2b(b"".join(digests), digest_size=8).hexdigest()


def corpora(
    folder: Path, spec: Spec, stage: str, above: tuple[Path, ...] = ()
) -> Iterator[tuple[Path, list[str]]]:
    """The prepared folders that a stage's models have learned from, each with the digests that its card
    ``heeds``; also those of other runs from whose folders a model comes."""
    for name in (*ancestors(spec)[stage], stage):
        card = folder / name / "card.json"
        if spec.stages[name].prepare and card.is_file():
            yield card.parent, _heeded(card)
        for made in _made_elsewhere(spec, name):
            if made in above or not (made.parent / RESOLVED).is_file():
                continue
            try:
                other = load_resolved(made.parent / RESOLVED).spec
            except EngineError:  # a spec of another version of the engine; its model is still used
                continue
            if made.name in other.stages:
                yield from corpora(made.parent, other, made.name, (*above, made))


def _made_elsewhere(spec: Spec, name: str) -> list[Path]:
    """The parents of the folders of models that a stage trains or evaluates: of other runs' models, the
    stages that trained them."""
    stage = spec.stages[name]
    models = stage.evaluate.models if stage.evaluate else ()
    models = (stage.train.model,) if stage.train else models
    return [Path(m.origin.path).resolve().parent for m in models if m.origin.path]


def _heeded(card: Path) -> list[str]:
    """Digests of the held-out records that a card lists; none if it cannot be read."""
    try:
        fields = read_json(card)
    except (OSError, ValueError):
        return []
    heeds = fields.get("heeds") if isinstance(fields, dict) else None
    return heeds if isinstance(heeds, list) else []


def _of_texts(train: Train) -> bool:
    return train.data.gives() == "text"


def _of_records(spec: Spec, stage: str) -> Train | None:
    """The train stage if it reads a source of records, else None."""
    train: Train | None = spec.stages[stage].train
    return train if train and train.data.prepare_stage() is None else None
