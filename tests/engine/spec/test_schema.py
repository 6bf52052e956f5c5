"""`engine schema` serves editors: what it lets pass and what the engine takes agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.registry import Plugins
from engine.spec.composition import json_schema
from engine.spec.loading import spec_class

READY = sorted((Path(__file__).parents[3] / "specs").glob("*.yaml"))
TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
    "number": (int, float), "null": type(None),
}  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Of specs with the built-in plugins, through JSON and back."""
    composed = spec_class(Plugins.discover().selected(()))
    return json.loads(json.dumps(json_schema(composed)))


def test_every_field_is_described(schema):
    """An editor shows what it is for."""
    for name, part in {"Spec": schema, **schema["$defs"]}.items():
        fields = part.get("properties", {}).items()
        assert [field for field, info in fields if "description" not in info] == [], name


def test_specs_fit_it(schema, tiny_spec):
    """As people write them: names of stages, `4M tokens`, `1%` and `16k`."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"optimizer": "adamw", "batch": {"tokens": "16k"}, "evaluate": ["perplexity"]}
    tiny_spec["stages"]["corpus"]["prepare"]["holdout"] = "1%"
    assert list(_misfits(schema, schema, tiny_spec)) == []
    for file in READY:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
        if "extends" not in spec:
            assert list(_misfits(schema, schema, spec)) == [], file


def test_a_spec_that_extends_another_need_not_be_whole(schema):
    """But what it has is checked."""
    assert list(_misfits(schema, schema, {"extends": "base.yaml", "seed": 3})) == []
    assert list(_misfits(schema, schema, {"seed": 3})) == ["is none of several"]
    assert list(_misfits(schema, schema, {"extends": 3})) == ["extends: 3 is no string"]


def test_defaults_fit_it(schema):
    """They are what a spec would say."""
    for name, part in schema["$defs"].items():
        for field, info in part.get("properties", {}).items():
            if "default" in info:
                assert list(_misfits(schema, info, info["default"])) == [], f"{name}.{field}"


def test_wrong_specs_do_not_fit_it(schema, tiny_spec):
    """An editor marks what the engine would refuse."""
    tiny_spec |= {"sed": 1, "seed": "x"}
    tiny_spec["stages"]["base"]["train"]["model"]["layers"] = 0
    assert sorted(_misfits(schema, schema, tiny_spec)) == [
        "sed: is no field",
        "seed: 'x' is no integer",
        "stages: base: train: is none of several",
    ]


def _misfits(root: dict[str, Any], schema: Any, value: Any) -> Any:
    """What of a value does not fit a schema; as much of JSON schema as is in ours."""
    if schema is True:
        return
    if "$ref" in schema:
        yield from _misfits(root, root["$defs"][schema["$ref"].rpartition("/")[2]], value)
    for choices in (schema.get(word) for word in ("anyOf", "oneOf")):
        if choices and all(any(_misfits(root, choice, value)) for choice in choices):
            yield "is none of several"
    of = schema.get("type")
    if of and (not isinstance(value, TYPES[of]) or (of != "boolean" and value is True)):
        yield f"{value!r} is no {of}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"is none of {schema['enum']}"
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        yield f"{value} is too little"
    if isinstance(value, list):
        for item in value:
            yield from _misfits(root, schema.get("items", True), item)
    if isinstance(value, dict):
        if len(value) > schema.get("maxProperties", len(value)):
            yield f"{value} has too many parts"
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{name}: missing" for name in schema.get("required", ()) if name not in value)
        for name, part in value.items():
            inner = properties.get(name, others)
            found = ["is no field"] if inner is False else _misfits(root, inner, part)
            yield from (f"{name}: {misfit}" for misfit in found)
