"""Whether models and data give what is asked of them: a head, held-out records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.document import Path_

if TYPE_CHECKING:
    from engine.spec import Evaluate, Stage, Train

_GIVES = {"lm": "the next token", "scalar": "one number for a text"}
"""A model by its head."""
_Stages = Mapping[str, "Stage | None"]
_Problems = Iterator[tuple[Path_, str]]


def wrong_heads(name: str, wanted: Iterable[tuple[Path_, str, str]], stages: _Stages) -> _Problems:
    """Of the models that a stage names, each as path, stage and head: those that have another head."""
    heads = {other: _head(stages, other) for other in stages if other != name}
    for at, target, head in wanted:
        has = heads.get(target)
        if has and has != head:
            have = ", ".join(other for other, gives in heads.items() if gives == head) or "none"
            yield (
                at,
                f"the model of '{target}' gives {_GIVES[has]}, and not {_GIVES[head]}; stages here "
                f"whose model does: {have}",
            )


def unsuited(stages: _Stages, name: str) -> _Problems:
    """What a sound stage begins with and measures, where these do not fit together."""
    stage = stages[name]
    if stage and stage.train:
        yield from _in_training(stages, name, stage.train)
    if stage and stage.evaluate:
        yield from _in_evaluation(stages, stage.evaluate)


def _in_training(stages: _Stages, name: str, train: Train) -> _Problems:
    base = getattr(train.model, "stage", "")
    has = _head(stages, name)
    if (_head(stages, base), has) == ("scalar", "lm"):
        yield ("model",), f"the model of '{base}' gives {_GIVES['scalar']}, and not {_GIVES['lm']}"
    for index, evaluator in enumerate(train.evaluate):
        for wrong in _unanswered(evaluator, name, has, holds_out=_holds_out(stages, name)):
            yield ("evaluate", index), wrong


def _in_evaluation(stages: _Stages, evaluate: Evaluate) -> _Problems:
    for index, evaluator in enumerate(evaluate.evaluators):
        held_out = evaluate.data is not None and _holds_out(stages, evaluate.data)
        for model in evaluate.models:
            base = getattr(model, "stage", "")
            wrong = list(_unanswered(evaluator, base, _head(stages, base), holds_out=held_out))
            if wrong:
                yield ("evaluators", index), wrong[0]
                break


def _unanswered(evaluator: Any, model: str, has: str | None, *, holds_out: bool) -> Iterator[str]:
    if has and has != evaluator.head:
        yield (
            f"'{evaluator.type}' asks for {_GIVES[evaluator.head]}, but the model of '{model}' gives "
            f"{_GIVES[has]}"
        )
    if evaluator.held_out and not holds_out:
        yield (
            f"'{evaluator.type}' needs held-out records, and there are none: set `holdout` where the "
            "data is named, and in an evaluate stage `data`"
        )


def _head(stages: _Stages, name: str) -> str | None:
    """What a train stage's model gives."""
    objective: Any = getattr(getattr(stages.get(name), "train", None), "objective", None)
    return objective.head if objective else None


def _holds_out(stages: _Stages, name: str) -> bool:
    """Whether a stage has records that training never sees; of a wrong one, perhaps."""
    stage = stages.get(name)
    if stage is None or stage.evaluate:
        return True
    body = stage.body
    prepared = getattr(getattr(body, "data", None), "stage", None)
    return _holds_out(stages, prepared) if prepared else body.holdout > 0
