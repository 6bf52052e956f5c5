"""References from configurations to stages, and nested configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.contracts.config import Config, StageRef
from engine.errors import Location


class Reference(NamedTuple):
    """A reference in the spec, at path ``at``, to a stage with one of ``verbs``; with ``head``, to one
    whose model has that head."""

    at: Location
    verbs: tuple[str, ...]
    stage: str
    head: str | None = None


def references(config: BaseModel) -> Iterator[Reference]:
    """Every reference to a stage in a configuration."""
    for name, info in type(config).model_fields.items():
        yield from field_references((name,), info, getattr(config, name))


def ordered(dependencies: Mapping[str, Sequence[str]]) -> list[str]:
    """Names in the given order, each moved after its dependencies; without those on or behind a
    cycle."""
    done: list[str] = []
    waiting = dict.fromkeys(dependencies)
    while True:
        ready = (n for n in waiting if not any(other in waiting for other in dependencies[n]))
        name = next(ready, None)
        if name is None:
            return done
        done.append(name)
        del waiting[name]


def field_references(at: Location, info: FieldInfo, value: Any) -> Iterator[Reference]:
    """Every reference to a stage in one field of a configuration, at any depth."""
    yield from _named(at, info.annotation, info.metadata, value)
    for inner, config in configs_in(at, value):
        for reference in references(config):
            yield reference._replace(at=(*inner, *reference.at))


def _named(
    at: Location, annotation: Any, metadata: Sequence[Any], value: Any
) -> Iterator[Reference]:
    """References in a value itself, as a StageRef anywhere in its annotation marks them."""
    ref = next((m for m in metadata if isinstance(m, StageRef)), None)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if ref is not None and isinstance(value, str):
        verbs = (ref.verb, ref.other) if ref.other else (ref.verb,)
        yield Reference(at, verbs, value, ref.head)
    elif origin is Annotated:
        yield from _named(at, arguments[0], arguments[1:], value)
    elif origin in (Union, UnionType):
        found = (list(_named(at, argument, (), value)) for argument in arguments)
        yield from next(filter(None, found), ())
    elif arguments and isinstance(origin, type) and isinstance(value, origin):
        # `tuple[A, B]` has one type per item; `tuple[A, ...]`, a list or a mapping one for all.
        items = list(_items(value))
        one = (arguments[-1] if isinstance(value, Mapping) else arguments[0],) * len(items)
        inner = arguments if origin is tuple and Ellipsis not in arguments else one
        for argument, (key, item) in zip(inner, items, strict=False):
            yield from _named((*at, key), argument, (), item)


def every_config(at: Location, value: Any) -> Iterator[tuple[Location, Config]]:
    """Every configuration in a value, also nested in others, with its path."""
    for inner, config in configs_in(at, value):
        if isinstance(config, Config):
            yield inner, config
        for name in type(config).model_fields:
            yield from every_config((*inner, name), getattr(config, name))


def place_of(config: BaseModel, value: Any, at: Location = ()) -> Location | None:
    """Path in ``value`` to this configuration, compared by identity; None if it is not in there."""
    for inner, other in configs_in(at, value):
        if other is config:
            return inner
        for name in type(other).model_fields:
            found = place_of(config, getattr(other, name), (*inner, name))
            if found is not None:
                return found
    return None


def configs_in(at: Location, value: Any) -> Iterator[tuple[Location, BaseModel]]:
    """The outermost configurations in a value, with their paths."""
    if isinstance(value, BaseModel):
        yield at, value
    for key, item in _items(value):
        yield from configs_in((*at, key), item)


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    """Items of a tuple, list or mapping, by index or key."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple | list):
        yield from enumerate(value)
