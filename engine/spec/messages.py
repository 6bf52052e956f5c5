"""Translates pydantic's errors into messages with the field's path and the fix."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from engine.contracts.component import Kind
from engine.errors import Location, nearest
from engine.registry import Plugins

_LONGEST = 60
"""Characters of an invalid value that a message repeats."""
_SHAPES = {"model_type": "fields", "model_attributes_type": "fields", "dict_type": "names"}


class Translator:
    """Translates errors of one spec's model, with the components that the spec may use (``plugins``)
    and those that it could (``installed``)."""

    def __init__(self, model: type[BaseModel], plugins: Plugins, installed: Plugins) -> None:
        self._model = model
        self._plugins = plugins
        self._installed = installed

    def translate(
        self, error: ValidationError, *, all_there: bool = True
    ) -> Iterator[tuple[Location, str]]:
        """Path in the spec and message for each of pydantic's errors. Unless the spec's plugins are
        ``all_there``, without those of types that no installed plugin has: one of the others may."""
        details = error.errors(include_url=False)
        around = {d["loc"][:end] for d in details for end in range(len(d["loc"]))}
        for detail in details:
            if detail["type"] == "too_short" and detail["loc"] in around:
                continue  # pydantic counts only valid items; the invalid ones are reported anyway
            if detail["type"] == "union_tag_invalid" and not (all_there or self._has(detail)):
                continue
            at, types_here = self._resolve(detail["loc"])
            yield at, self._message(detail, at, types_here)

    def _resolve(self, loc: Sequence[str | int]) -> tuple[Location, list[Any]]:
        """The path in the spec, without the tags that pydantic inserts, and the types at its end."""
        at: Location = ()
        here: list[Any] = [self._model]
        for key in loc:
            candidates = models_in(here)
            tagged = [m for m in candidates if _tag(m) == key]
            if tagged and len(candidates) > 1:
                here = tagged
                continue
            steps = [s for t in here if (s := _step(t, key)) is not None]
            if not steps and tagged:
                here = tagged
                continue
            if key == "[key]":  # pydantic's marker for an invalid key of a dict
                continue
            at = (*at, key)
            here = steps
        return at, here

    def _message(self, detail: Any, at: Location, here: list[Any]) -> str:
        kind = detail["type"]
        if kind == "extra_forbidden":
            _, parents = self._resolve(detail["loc"][:-1])
            names = [n for m in models_in(parents) for n in m.model_fields]
            return f"unknown field{nearest(str(at[-1]), names)}"
        if kind == "missing":
            return "missing"
        if kind in ("union_tag_not_found", "model_attributes_type"):
            tags = [t for m in models_in(here) if (t := _tag(m))]
            if tags:
                return f"needs a 'type': {', '.join(tags)}"
        if kind == "union_tag_invalid":
            tags = [t for m in models_in(here) if (t := _tag(m))]
            return self._unknown_type(str(detail["ctx"]["tag"]), tags)
        if kind in _SHAPES:
            return f"{_shown(detail['input'])}: write a mapping of {_SHAPES[kind]} here"
        if kind == "tuple_type":
            return f"{_shown(detail['input'])}: write a list here"
        if kind == "too_short":
            return f"needs at least {detail['ctx']['min_length']}"
        message = str(detail["msg"]).removeprefix("Value error, ")
        if kind == "value_error":
            return message
        return f"{_shown(detail['input'])}: {message[0].lower()}{message[1:]}"

    def _has(self, detail: Any) -> bool:
        """Whether an installed plugin has the type that a spec asks for in vain."""
        _, here = self._resolve(detail["loc"])
        known = [t for m in models_in(here) if (t := _tag(m))]
        tag = str(detail["ctx"]["tag"])
        return any(tag in self._installed.of_kind(k) for k in _kinds_of(self._plugins, known))

    def _unknown_type(self, tag: str, known: list[str]) -> str:
        for kind in _kinds_of(self._plugins, known):
            found = self._installed.of_kind(kind).get(tag)
            if found and not found.plugin.builtin:
                return (
                    f"type '{tag}' comes from the installed plugin '{found.plugin.name}'; "
                    f"add it to the spec: `plugins: [{found.plugin.name}]`"
                )
        return f"unknown type {_shown(tag)}{nearest(tag, known)}; known: {', '.join(known)}"


def models_in(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    """The pydantic models among the types and the members of their unions."""
    flat = (t for annotation in annotations for t in _flatten(annotation))
    return [t for t in flat if isinstance(t, type) and issubclass(t, BaseModel)]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _kinds_of(plugins: Plugins, types_: Iterable[str]) -> list[Kind]:
    wanted = set(types_)
    return [kind for kind in plugins.kinds() if wanted & set(plugins.of_kind(kind))]


def _flatten(annotation: Any) -> Iterable[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _flatten(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _flatten(argument)
    else:
        yield annotation


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    return str(get_args(field.annotation)[0])


def _step(annotation: Any, key: str | int) -> Any:
    """The type of the field or item ``key`` of a value of this type, or None."""
    for option in _flatten(annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            field = option.model_fields.get(str(key))
            if field is not None:
                return field.annotation
        elif get_origin(option) is dict:
            return get_args(option)[1]
        elif get_origin(option) in (list, tuple):
            return get_args(option)[0]
    return None
