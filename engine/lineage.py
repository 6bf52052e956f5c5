"""What a stage learns from through the stages that it depends on: corpora, and what these hold out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.checks import references
from engine.data.holdout import digest_of
from engine.errors import EngineError
from engine.spec import RESOLVED, load_resolved

if TYPE_CHECKING:
    from engine.data.records import Record
    from engine.spec import Prepare, Spec, Train


def ancestors(spec: Spec) -> dict[str, list[str]]:
    """By stage those that it depends on, also through others, in the spec's order."""
    found: dict[str, set[str]] = {}
    for name in spec.order:
        direct = spec.dependencies(name)
        found[name] = set(direct).union(*(found[other] for other in direct))
    place = {name: number for number, name in enumerate(spec.order)}
    return {name: sorted(others, key=lambda o: place[o]) for name, others in found.items()}


def unequal(spec: Spec) -> Iterator[str]:
    """A warning for every two stages of a lineage that hold out other shares of their records.

    Stages of records share prompts; with a prepared corpus one shares groups and texts, so that a stage
    which holds nothing out, as by default, is held against it only where it reads texts.
    """
    for name, others in ancestors(spec).items():
        own = _of_records(spec, name)
        for other in others if own else ():
            its: Train | Prepare | None = spec.stages[other].prepare or _of_records(spec, other)
            if own is None or its is None or own.holdout == its.holdout:
                continue
            if spec.stages[other].prepare and not (its.holdout and (own.holdout or _of_texts(own))):
                continue
            more, less = (name, other) if own.holdout > its.holdout else (other, name)
            yield (
                f"'{name}' holds out {own.holdout:.3g} of its records, and '{other}', on which it "
                f"depends, {its.holdout:.3g}: of what both read, '{less}' trains on some that "
                f"'{more}' holds out; give both the same `holdout`"
            )


def holding_out(spec: Spec, prepared: str) -> list[str]:
    """The train stages that depend on a prepare stage and hold out records, which are there before."""
    descending = [name for name, others in ancestors(spec).items() if prepared in others]
    found = ((name, _of_records(spec, name)) for name in descending)
    return [n for n, t in found if t and t.holdout and not any(references(t.data))]


def heeded_as(records: Sequence[Record]) -> str:
    """What a corpus's card calls held-out records that it was kept apart from."""
    digests = sorted({digest_of(record) for record in records})
    return blake2b(b"".join(digests), digest_size=8).hexdigest()


def corpora(folder: Path, spec: Spec, stage: str) -> Iterator[tuple[Path, list[str]]]:
    """The prepared folders that a stage's model has learned from, each with what its card ``heeds``;
    those of other runs too, where a model comes from the folder of one."""
    for name in (*ancestors(spec)[stage], stage):
        card = folder / name / "card.json"
        body: Any = spec.stages[name].body
        if spec.stages[name].prepare and card.is_file():
            yield card.parent, json.loads(card.read_text(encoding="utf-8")).get("heeds", [])
        path = getattr(getattr(body, "model", None), "path", None)
        made = Path(path).resolve().parent if path else None
        if made and (made.parent / RESOLVED).is_file():
            try:
                other = load_resolved(made.parent / RESOLVED).spec
            except EngineError:  # of an engine that had other fields; its model serves all the same
                continue
            if made.name in other.stages:
                yield from corpora(made.parent, other, made.name)


def _of_texts(train: Train) -> bool:
    data: Any = train.data
    return bool(data.gives() == "text")


def _of_records(spec: Spec, stage: str) -> Train | None:
    """A train stage on a source of records, or None."""
    train: Train | None = spec.stages[stage].train
    return train if train and getattr(train.data, "stage", None) is None else None
