"""Checks that models have the head, and data the held-out records, that a stage needs."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contracts.component_config import EvaluatorConfig
from engine.spec.model_origin import Stages, model_of
from engine.spec.parsed_stages import ParsedStages, Problems

_HEADS = {"lm": "a language-model head", "scalar": "a scalar head"}


def heads_in_references(parsed: ParsedStages, name: str) -> Problems:
    """References to models that have another head than the reference asks for."""
    heads = {other: _head(parsed.stages, other) for other in parsed.stages if other != name}
    for at, _, target, head in parsed.references[name]:
        has = heads.get(target)
        if has and head and has != head:
            have = ", ".join(other for other, gives in heads.items() if gives == head) or "none"
            yield (
                at,
                f"the model of '{target}' has {_HEADS[has]}, but {_HEADS[head]} is needed; stages "
                f"with one: {have}",
            )


def heads_in_training(parsed: ParsedStages, name: str) -> Problems:
    """A train stage that begins with a model of another head, or measures what it does not have."""
    train = parsed.train(name)
    if not train:
        return
    stages = parsed.stages
    base = train.model.origin.stage or ""
    has = _head(stages, name)
    if (_head(stages, base), has) == ("scalar", "lm"):
        yield (
            ("train", "model"),
            f"the model of '{base}' has {_HEADS['scalar']}, but {_HEADS['lm']} is needed",
        )
    first = model_of(stages, name) if has == "scalar" else None
    if first and (fault := first.scalar_head_fault()):
        yield (
            ("train", "objective", "type"),
            f"'{train.objective.type_name}' cannot train it: {fault}",
        )
    for index, evaluator in enumerate(train.evaluate):
        for wrong in _evaluator_problems(evaluator, name, has, holds_out=_holds_out(stages, name)):
            yield ("train", "evaluate", index), wrong


def heads_in_evaluation(parsed: ParsedStages, name: str) -> Problems:
    """An evaluate stage that measures what its models or its data do not have."""
    evaluate = parsed.evaluate(name)
    if not evaluate:
        return
    stages = parsed.stages
    for index, evaluator in enumerate(evaluate.evaluators):
        held_out = evaluate.data is not None and _holds_out(stages, evaluate.data)
        for model in evaluate.models:
            base = model.origin.stage or ""
            head = _head(stages, base)
            wrong = next(_evaluator_problems(evaluator, base, head, holds_out=held_out), None)
            if wrong:
                yield ("evaluate", "evaluators", index), wrong
                break


def _evaluator_problems(
    evaluator: EvaluatorConfig, model: str, has: str | None, *, holds_out: bool
) -> Iterator[str]:
    name = evaluator.type_name
    if has and has != evaluator.head:
        yield (
            f"'{name}' needs a model with {_HEADS[evaluator.head]}, but the model of '{model}' has "
            f"{_HEADS[has]}"
        )
    if evaluator.held_out and not holds_out:
        yield (
            f"'{name}' needs held-out records, but there are none: set `holdout` in the stage that "
            "prepares or reads the data, and `data` in an evaluate stage"
        )


def _head(stages: Stages, name: str) -> str | None:
    """The head of a train stage's model; None if unknown."""
    stage = stages.get(name)
    return stage.train.objective.head if stage and stage.train else None


def _holds_out(stages: Stages, name: str) -> bool:
    """Whether a stage has held-out records; True for an invalid stage, which is reported elsewhere."""
    seen = set()
    while (stage := stages.get(name)) and not stage.evaluate and name not in seen:
        seen.add(name)  # cycles are reported elsewhere
        prepared = stage.train.data.prepare_stage() if stage.train else None
        if not prepared:
            return bool(stage.body.holdout > 0)
        name = prepared
    return True
