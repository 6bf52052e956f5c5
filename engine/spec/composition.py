"""Turns config classes with :class:`Of` fields into ordinary pydantic models.

Each such field becomes the union, discriminated by ``type``, of the configs of the available
components of that kind. The result validates, dumps and has a JSON schema like any pydantic model.
A component may contain others of its own kind, such as an optimizer around an optimizer: while a union
is made, fields that need it wait, and are completed before pydantic builds any of the classes.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Mapping
from copy import copy
from functools import partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BeforeValidator,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from engine._deprecated import warn
from engine.contracts.amounts import Amount
from engine.contracts.component import Kind, Schema
from engine.contracts.component_config import (
    DataConfig,
    DataSourceConfig,
    EvaluatorConfig,
    InferenceConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PenaltyConfig,
    RewardConfig,
    StrategyConfig,
    TokenizerConfig,
)
from engine.contracts.config import Config, Of, StageRef
from engine.contracts.model_config import ModelConfig
from engine.errors import PluginError
from engine.registry import Found, Plugins

BASES: Mapping[Kind, type[Config]] = {
    "data-source": DataSourceConfig,
    "tokenizer": TokenizerConfig,
    "model": ModelConfig,
    "objective": ObjectiveConfig,
    "penalty": PenaltyConfig,
    "optimizer": OptimizerConfig,
    "strategy": StrategyConfig,
    "reward": RewardConfig,
    "evaluator": EvaluatorConfig,
    "inference": InferenceConfig,
}
"""Base class of the configurations of each kind."""
_Absent = Callable[[Mapping[str, Any]], Config]


class StageData(DataConfig):
    """The prepared data of another stage."""

    stage: Annotated[str, StageRef("prepare")] = Field(description="Name of a prepare stage.")

    def gives(self) -> Schema:
        """See :class:`engine.contracts.component_config.DataConfig`: documents, already tokenized."""
        return "text"

    def prepare_stage(self) -> str:
        """See :class:`engine.contracts.component_config.DataConfig`."""
        return self.stage


class _AbsentModel(ModelConfig):
    """A model without its plugin: name and origin are among the fields that only the plugin knows."""

    def _field(self, name: str) -> Any:
        return (self.model_extra or {}).get(name)


class Composer:
    """Composes config classes for one set of plugins. ``lenient``: also accepts components that none of
    them has, with any further fields, for what looks at a run without their plugin."""

    def __init__(self, plugins: Plugins, *, lenient: bool = False) -> None:
        self._plugins = plugins
        self._lenient = lenient
        self._unions: dict[Of, Any] = {}
        self._classes: dict[tuple[Kind, str], type[Config]] = {}
        self._open: list[Of] = []
        """Unions that are being made, from the outermost to the innermost."""
        self._waiting: list[tuple[type[Config], str, FieldInfo]] = []
        """Fields that contain one of these unions: class, name, and the field before composition."""

    def compose(self, cls: type[Config], type_name: str | None = None) -> type[Config]:
        """``cls`` with every Of field replaced; with ``type_name``, also with a ``type`` field."""
        fields: dict[str, Any] = {}
        waiting = []
        if type_name is not None:
            fields["type"] = (Literal[type_name], Field(description=_summary(cls)))
        for name, info in cls.model_fields.items():
            try:
                composed = self._composed(info)
            except _UnionIsOpenError:
                waiting.append((name, info))
                composed = (Any, info)
            if composed is not None:
                fields[name] = composed
        if not fields:
            return cls
        # Pydantic builds it on first use, when no field waits any more.
        deferred = {"defer_build": True}
        made = create_model(
            cls.__name__, __base__=cls, __doc__=cls.__doc__, __cls_kwargs__=deferred, **fields
        )
        self._waiting += [(made, name, info) for name, info in waiting]
        return made

    def config_class(self, kind: Kind, type_name: str) -> type[Config]:
        """The composed class of one component. Raises PluginError for a class that is no Config."""
        key = (kind, type_name)
        if key not in self._classes:
            own = own_class(self._plugins.of_kind(kind)[type_name])
            made = self.compose(_with_base(own, kind), type_name)
            self._classes.setdefault(key, made)  # there already if it may contain itself
        return self._classes[key]

    def installed(self, kind: Kind) -> dict[str, type[Config]]:
        """Composed classes, by type, of the components whose requirements are installed."""
        found = self._plugins.of_kind(kind).items()
        return {n: self.config_class(kind, n) for n, f in found if not f.missing_requirements()}

    def union(self, of: Of) -> Any:
        """The annotation of a field that holds any component of this kind."""
        if of in self._open:
            raise _UnionIsOpenError
        if of not in self._unions:
            self._open.append(of)
            try:
                classes = [self.config_class(of.kind, t) for t in self._plugins.of_kind(of.kind)]
                if of.or_stage:
                    classes.append(self.compose(StageData, "stage"))
            finally:
                self._open.pop()
            absent = partial(self._absent, of.kind) if self._lenient else None
            self._unions[of] = _union(of.kind, classes, absent)
            if not self._open:
                self._complete()
        return self._unions[of]

    def _absent(self, kind: Kind, fields: Mapping[str, Any]) -> Config:
        """The configuration of a component that no plugin has."""
        base = _AbsentModel if kind == "model" else BASES.get(kind, Config)
        space = {"model_config": {"extra": "allow"}, "__module__": __name__}
        return self.compose(type("Absent", (base,), space), fields["type"]).model_validate(fields)

    def _complete(self) -> None:
        """Gives the fields that wait their types, now that every union is made."""
        for made, name, info in self._waiting:
            composed: Any = self._composed(info)
            made.model_fields[name] = FieldInfo.from_annotated_attribute(*composed)
        self._waiting.clear()

    def _composed(self, info: FieldInfo) -> tuple[Any, FieldInfo] | None:
        """A field's composed annotation and what else it says; None for a field without components."""
        annotation, of = self._replaced(info.annotation, info.metadata)
        if annotation is info.annotation:
            return None
        if of:  # a new field, since a copy would hide the union's discriminator
            return annotation, _field(info, self._default(of))
        replaced = copy(info)
        replaced.metadata = [m for m in info.metadata if not isinstance(m, Of)]
        return annotation, replaced

    def _default(self, of: Of) -> dict[str, str] | None:
        found = self._plugins.default_of(of.kind)
        return {"type": found.component.type} if found else None

    def _replaced(self, annotation: Any, metadata: list[Any]) -> tuple[Any, Of | None]:
        of = next((m for m in metadata if isinstance(m, Of)), None)
        if of is not None:
            return self.union(of), of
        origin = get_origin(annotation)
        if origin is Annotated:
            inner, *inner_metadata = get_args(annotation)
            replaced, _ = self._replaced(inner, inner_metadata)
            return (annotation if replaced is inner else replaced), None
        if isinstance(annotation, type) and issubclass(annotation, Config):
            return self.compose(annotation), None
        arguments = get_args(annotation)
        if origin is None or origin is Literal or not arguments:
            return annotation, None
        new = tuple(
            a if a in (Ellipsis, types.NoneType) else self._replaced(a, [])[0] for a in arguments
        )
        if all(a is b for a, b in zip(new, arguments, strict=True)):
            return annotation, None
        if origin in (Union, types.UnionType):
            return Union[new], None  # noqa: UP007
        return origin[new], None


def own_class(found: Found) -> type[Config]:
    """A component's configuration as its plugin defines it. Raises PluginError if it is no Config."""
    cls = found.load_config()
    if not (isinstance(cls, type) and issubclass(cls, Config)):
        raise PluginError(f"plugin {found.plugin}: {found.component.config} is not a Config")
    return cls


class _UnionIsOpenError(Exception):
    """A field needs a union that is being made: its component contains others of the same kind."""


def _union(kind: Kind, classes: list[type[Config]], absent: _Absent | None) -> Any:
    """The annotation of a field with one of these classes, whose ``type`` tells which; ``absent`` reads
    what has another type."""
    if not classes:
        return Annotated[None, BeforeValidator(_nothing_installed(kind))]
    types_ = {get_args(c.model_fields["type"].annotation)[0] for c in classes}
    union: Any = Annotated[
        Union[tuple(classes)],  # noqa: UP007 - the classes are known only at run time
        Field(discriminator="type"),
    ]
    check = _component(types_, absent)
    return Annotated[union, WrapValidator(check, json_schema_input_type=union | str)]


def _with_base(cls: type[Config], kind: Kind) -> type[Config]:
    """The class itself, or, if it subclasses the plain Config, combined with its kind's base."""
    base = BASES.get(kind, Config)
    if issubclass(cls, base):
        return cls
    warn(f"{cls.__module__}.{cls.__qualname__} is a plain Config: subclass engine.{base.__name__}")
    return type(cls.__name__, (cls, base), {"__doc__": cls.__doc__, "__module__": cls.__module__})


class _SpecSchema(GenerateJsonSchema):
    """Writes defaults as a spec does."""

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Amount) else super().encode_default(dft)


def config_schema(model: type[Config]) -> dict[str, Any]:
    """The JSON schema of a composed class, such as a component's."""
    return model.model_json_schema(schema_generator=_SpecSchema)


def json_schema(model: type[Config]) -> dict[str, Any]:
    """The JSON schema of specs, for editors; a spec with ``extends`` may leave out required fields."""
    schema = config_schema(model)
    extends = "Spec that this one changes, as a path relative to this file."
    schema["properties"]["extends"] = {"type": "string", "description": extends}
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["extends"]}]
    return schema


def _component(types_: Collection[str], absent: _Absent | None) -> Any:
    """Validator that reads a bare string as a stage's name if the field accepts stages, else as the
    type of a component without fields."""
    stage_type = "stage" in types_

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str):
            value = {"type": "stage", "stage": value} if stage_type else {"type": value}
        try:
            if absent and isinstance(value, dict) and value.get("type") not in (None, *types_):
                return absent(value)
            return handler(value)
        except (ValueError, AssertionError):  # handled by pydantic
            raise
        except Exception as error:  # a plugin's validator may read files, and raise anything
            raise ValueError(f"cannot be checked: {type(error).__name__}: {error}") from error

    return validate


def _nothing_installed(kind: Kind) -> Any:
    def refuse(value: object) -> None:
        if value is not None:
            raise ValueError(f"no installed plugin provides a {kind}")

    return refuse


def _field(info: FieldInfo, default: dict[str, str] | None) -> FieldInfo:
    filled = default is not None and info.is_required()
    return FieldInfo(
        default=default if filled else info.default,
        validate_default=filled,
        description=info.description,
        json_schema_extra=info.json_schema_extra,
    )


def _summary(cls: type[Config]) -> str:
    return (cls.__doc__ or cls.__name__).strip().split("\n")[0]
