"""The stages of a spec as typed values; of a stage with errors, the fields that are valid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from engine.contracts.references import Reference, field_references
from engine.contracts.spec import Evaluate, Prepare, Spec, Stage, Train
from engine.errors import Location
from engine.registry import Plugins
from engine.spec.messages import models_in
from engine.spec.model_origin import Stages
from engine.spec.permissions import Permissions

_VERBS = ("prepare", "train", "evaluate")

Problems = Iterator[tuple[Location, str]]
"""Path and message of each problem."""


class ParsedField(NamedTuple):
    """A valid field of a stage; ``at`` is its path below the stage."""

    at: Location
    info: FieldInfo
    value: Any


@dataclass(frozen=True, slots=True)
class ParsedStages:
    """The stages of a spec by name, and the plugins, processes and permissions that they run with.

    ``stages`` has None for a stage with errors of its own, whose ``fields`` are those without errors.
    ``verbs`` has "" for a stage without a verb; ``whole`` is False where a plugin that the spec names
    cannot be used. Paths in ``references`` begin below the stage.
    """

    stages: Stages
    verbs: Mapping[str, str]
    fields: Mapping[str, Sequence[ParsedField]]
    references: Mapping[str, Sequence[Reference]]
    plugins: Plugins
    processes: int
    permissions: Permissions
    whole: bool

    def prepare(self, name: str) -> Prepare | None:
        """The configuration of a valid prepare stage."""
        stage = self.stages[name]
        return stage.prepare if stage else None

    def train(self, name: str) -> Train | None:
        """The configuration of a valid train stage."""
        stage = self.stages[name]
        return stage.train if stage else None

    def evaluate(self, name: str) -> Evaluate | None:
        """The configuration of a valid evaluate stage."""
        stage = self.stages[name]
        return stage.evaluate if stage else None


Check = Callable[[ParsedStages, str], Problems]
"""Yields the problems of the stage with this name; their paths begin below the stage."""


def parse_stages(
    model: type[Spec],
    spec: Spec | None,
    data: Mapping[str, Any],
    plugins: Plugins,
    processes: int,
    permissions: Permissions,
    *,
    whole: bool = True,
) -> ParsedStages:
    """Parses the stages in the spec's ``data``; ``spec`` is None for one that is not valid."""
    given = data.get("stages")
    given = given if isinstance(given, dict) else {}
    raws = {name: raw for name, raw in given.items() if isinstance(raw, dict)}
    stage_class: Any = get_args(model.model_fields["stages"].annotation)[1]
    stages: dict[str, Stage | None] = {
        name: spec.stages[name] if spec else _valid(stage_class, raw) for name, raw in raws.items()
    }
    fields = {
        name: list(_fields(stage) if stage else _valid_fields(stage_class, raws[name]))
        for name, stage in stages.items()
    }
    return ParsedStages(
        stages=stages,
        verbs={name: next((v for v in _VERBS if v in raw), "") for name, raw in raws.items()},
        fields=fields,
        references={
            name: [reference for field in found for reference in field_references(*field)]
            for name, found in fields.items()
        },
        plugins=plugins,
        processes=processes,
        permissions=permissions,
        whole=whole,
    )


def _fields(stage: Stage) -> Iterator[ParsedField]:
    for field, info in type(stage.body).model_fields.items():
        yield ParsedField((stage.verb, field), info, getattr(stage.body, field))


def _valid_fields(stage_class: type[Stage], raw: Mapping[str, Any]) -> Iterator[ParsedField]:
    for verb in _VERBS:
        body = raw.get(verb)
        (config,) = models_in([stage_class.model_fields[verb].annotation])
        for field, info in config.model_fields.items():
            if isinstance(body, dict) and field in body:
                value = _valid(Annotated[info.annotation, *info.metadata, None], body[field])
                if value is not None:
                    yield ParsedField((verb, field), info, value)


def _valid(annotation: Any, value: Any) -> Any:
    """The value as this type, or None."""
    try:
        return TypeAdapter(annotation).validate_python(value)
    except (ValidationError, UnicodeEncodeError):
        return None
