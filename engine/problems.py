"""Translates pydantic's errors into lines that name file, line, field and mend."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from engine.component import Kind
from engine.plugins import Plugins
from engine.source import Source

_At = Sequence[str | int]


class Problems:
    """Collects what is wrong with a spec."""

    def __init__(
        self, source: Source, model: type[BaseModel], plugins: Plugins, installed: Plugins
    ) -> None:
        self.found: list[str] = []
        self._source = source
        self._model = model
        self._plugins = plugins
        self._installed = installed

    def add(self, at: _At, message: str) -> None:
        """One problem at a path of the spec."""
        self.found.append(f"{self._source.mark(at)}: {_dotted(at)}: {message}")

    def translate(self, error: ValidationError) -> list[str]:
        """Adds a line for each of pydantic's errors, and gives them all."""
        for detail in error.errors(include_url=False):
            at, types_here = self._resolve(detail["loc"])
            self.add(at, self._message(detail, at, types_here))
        return self.found

    def _resolve(self, loc: _At) -> tuple[list[str | int], list[Any]]:
        """The path in the spec without pydantic's union tags, and the types at its end."""
        at: list[str | int] = []
        here: list[Any] = [self._model]
        for key in loc:
            candidates = _models(here)
            tagged = [m for m in candidates if _tag(m) == key]
            if tagged and len(candidates) > 1:
                here = tagged
                continue
            steps = [s for t in here if (s := _step(t, key)) is not None]
            if not steps and tagged:
                here = tagged
                continue
            at.append(key)
            here = steps
        return at, here

    def _message(self, detail: Any, at: _At, here: list[Any]) -> str:
        kind = detail["type"]
        if kind == "extra_forbidden":
            _, parents = self._resolve(detail["loc"][:-1])
            names = [n for m in _models(parents) for n in m.model_fields]
            return f"unknown field{_nearest(str(at[-1]), names)}"
        if kind == "missing":
            return "missing"
        if kind == "union_tag_not_found":
            tags = [t for m in _models(here) if (t := _tag(m))]
            return f"needs a 'type': {', '.join(tags)}" if tags else "needs a 'type'"
        if kind == "union_tag_invalid":
            tags = [t for m in _models(here) if (t := _tag(m))]
            return self._unknown_type(str(detail["ctx"]["tag"]), tags)
        message = detail["msg"].removeprefix("Value error, ")
        value = detail["input"]
        if kind != "value_error" and isinstance(value, str | int | float | bool):
            message = f"{value!r}: {message[0].lower()}{message[1:]}"
        return str(message)

    def _unknown_type(self, tag: str, known: list[str]) -> str:
        for kind in _kinds_of(self._plugins, known):
            found = self._installed.of_kind(kind).get(tag)
            if found and not found.plugin.builtin:
                return (
                    f"type '{tag}' comes from the installed plugin '{found.plugin.name}'; "
                    f"add it to the spec: `plugins: [{found.plugin.name}]`"
                )
        return f"unknown type '{tag}'{_nearest(tag, known)}; known: {', '.join(known)}"


def _kinds_of(plugins: Plugins, types_: Iterable[str]) -> list[Kind]:
    wanted = set(types_)
    return [kind for kind in plugins.kinds() if wanted & set(plugins.of_kind(kind))]


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _dotted(at: _At) -> str:
    return ".".join(map(str, at)) or "spec"


def _flatten(annotation: Any) -> Iterable[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _flatten(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _flatten(argument)
    else:
        yield annotation


def _models(annotations: Iterable[Any]) -> list[type[BaseModel]]:
    flat = (t for annotation in annotations for t in _flatten(annotation))
    return [t for t in flat if isinstance(t, type) and issubclass(t, BaseModel)]


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    return str(get_args(field.annotation)[0])


def _step(annotation: Any, key: str | int) -> Any:
    """The type of the part ``key`` of a value of this type, or None."""
    for t in _flatten(annotation):
        if isinstance(t, type) and issubclass(t, BaseModel):
            field = t.model_fields.get(str(key))
            if field is not None:
                return field.annotation
        elif get_origin(t) is dict:
            return get_args(t)[1]
        elif get_origin(t) in (list, tuple):
            return get_args(t)[0]
    return None
