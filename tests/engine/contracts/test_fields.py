"""Every field of every configuration has a test that fails when the field is ignored.

Tests say so with ``@pytest.mark.covers("model/llama.layers")``: kind, type and field of a
component, or class and field of another configuration (``"Train.clip"``).
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from engine.contracts.component_config import ComponentConfig
from engine.contracts.config import Config
from engine.contracts.spec import Spec
from engine.registry import Plugins


def test_every_field_is_covered(covered):
    """A field that no test covers may change nothing at all."""
    assert sorted(set(_fields()) - covered) == []


def test_marks_name_fields_that_exist(covered):
    """A mark for a field that is gone hides that its test is out of date."""
    named = {name for name in covered if not name.startswith("engine_")}
    assert sorted(named - set(_fields())) == []


def _fields() -> Iterator[str]:
    plugins = Plugins.discover()
    builtin = plugins.selected(())
    nested: set[type[BaseModel]] = set()
    for kind in builtin.kinds():
        for name, found in builtin.of_kind(kind).items():
            config = found.load_config()
            yield from (f"{kind}/{name}.{field}" for field in config.model_fields)
            nested |= set(_parts(config))
    for config in {Spec, *_parts(Spec), *nested}:
        yield from (f"{config.__name__}.{field}" for field in config.model_fields)


def _parts(config: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Configurations inside this one that are no components."""
    for info in config.model_fields.values():
        for part in _models(info.annotation):
            if part is not Config and not issubclass(part, ComponentConfig):
                yield part
                yield from _parts(part)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
