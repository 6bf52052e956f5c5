"""A stage's identity, and the differences between a recorded identity and the spec.

Fields marked ``runtime`` do not belong to the identity: a stage continues after a change of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.contracts.config import Config
from engine.contracts.spec import Spec, Train
from engine.hardware.precision import AUTO

_HELD_OUT_BY = "held_out_by"
"""Identity field for a stage that holds prompts out: the rule, since another one selects others."""


def identity(spec: Spec, stage: str) -> dict[str, Any]:
    """The stage's identity fields as plain data, with all defaults."""
    body: dict[str, Any] = {"verb": spec.stages[stage].verb, "seed": spec.seed}
    if _holds_prompts_out(spec.stages[stage].train):
        body[_HELD_OUT_BY] = "first user turn"
    return body | identity_fields(spec.stages[stage].body)


def changes(spec: Spec, recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Differences to the recorded identities, by stage, as lines ``field: old → new``.

    A stage also changes if one of its inputs does. A field that was added since or was removed makes no
    difference at its default.
    """
    found: dict[str, list[str]] = {}
    for stage in spec.order:
        if stage not in recorded:
            continue
        old, new = _completed(recorded[stage], spec.stages[stage].body), identity(spec, stage)
        if old.get("holdout") and _HELD_OUT_BY in new:
            old = {_HELD_OUT_BY: "prompt or id", **old}
        lines = differences(old, new)
        if not lines and any(name in found for name in spec.dependencies(stage)):
            lines = ["one of its inputs has changed"]
        if lines:
            found[stage] = lines
    return found


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """``field: old → new`` for every leaf that differs; a new ``auto`` matches any recorded value."""
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        same = old == new or (new == AUTO and old is not None)
        return [] if same else [f"{at}: {old} → {new}"]
    found = []
    for name in dict.fromkeys([*old, *new]):
        found += differences(old.get(name), new.get(name), f"{at}.{name}" if at else str(name))
    return found


def _holds_prompts_out(train: Train | None) -> bool:
    """Whether a stage holds out records other than texts; the rule for texts has never changed."""
    return bool(train and train.holdout and train.data.gives() != "text")


def identity_fields(config: BaseModel) -> dict[str, Any]:
    """The identity fields of a configuration as plain data."""
    return {name: _plain(getattr(config, name)) for name, _ in _identity_fields(config)}


def _identity_fields(config: BaseModel) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in type(config).model_fields.items():
        extra = info.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("runtime")):
            yield name, info


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return identity_fields(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):  # the order of a set differs between processes
        return sorted(map(_plain, value), key=repr)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _completed(old: Any, value: Any) -> Any:
    """A recorded value without removed fields and with fields added since, if both have their
    defaults."""
    if isinstance(value, tuple) and isinstance(old, list) and len(old) == len(value):
        return [_completed(*pair) for pair in zip(old, value, strict=True)]
    if not (isinstance(value, BaseModel) and isinstance(old, Mapping)):
        return old
    former = type(value).former.items() if isinstance(value, Config) else ()
    gone = {name for name, default in former if old.get(name) == default}
    found = {name: given for name, given in old.items() if name not in gone}
    for name, info in _identity_fields(value):
        now = getattr(value, name)
        if name in old:
            found[name] = _completed(old[name], now)
        elif _is_default(now, info):
            found[name] = _plain(now)
    return found


def _is_default(value: Any, info: FieldInfo) -> bool:
    default = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel) and isinstance(default, Mapping):  # of a component
        return _same_type(value, default) and value == type(value).model_validate(default)
    return bool(value == default)


def _same_type(value: BaseModel, default: Mapping[str, Any]) -> bool:
    return getattr(value, "type", None) == default.get("type")
