"""Architectures of plugins: transformers opens models of them, and a model's folder names its plugin.

A folder never says what to import: only the declaration of an installed plugin does.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from engine.contracts.component import Architecture
from engine.errors import PluginError, SpecError
from engine.registry import Plugin, Plugins

_FIELD = "engine_plugin"
"""The field of a config.json that names the plugin which opens the model."""
_PARTS = ("name", "distribution", "version")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""Names and versions that may stand in a message with a command."""


@dataclass(frozen=True, slots=True)
class FoundArchitecture:
    """An architecture and the plugin that declares it."""

    declared: Architecture
    plugin: Plugin

    def config(self) -> type[Any]:
        """Imports the configuration class. Raises PluginError."""
        return self.load(self.declared.config)

    def trained(self) -> tuple[type[Any], ...]:
        """Imports the classes of models that are trained: the language model, and the one with a scalar
        head if there is one. Raises PluginError."""
        paths = (self.declared.model, self.declared.scalar)
        return tuple(self.load(path) for path in paths if path)

    def load(self, path: str) -> type[Any]:
        """Imports a class that is declared. Raises PluginError."""
        loaded: type[Any] = self.plugin.load(self.declared.model_type, path)
        return loaded


def architectures(plugins: Iterable[Plugin]) -> dict[str, list[FoundArchitecture]]:
    """What plugins declare, by ``model_type``: one architecture each, unless names clash."""
    found: dict[str, list[FoundArchitecture]] = {}
    for plugin in plugins:
        for declared in plugin.architectures:
            found.setdefault(declared.model_type, []).append(FoundArchitecture(declared, plugin))
    return found


def register_architectures() -> None:
    """Lets transformers' Auto classes open models of the architectures that installed plugins declare.

    May be called again. Warns of an architecture that cannot be loaded or whose name is taken.
    """
    for message in dict.fromkeys(register_each(Plugins.discover().plugins).values()):
        warnings.warn(message, stacklevel=2)


def register_each(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Registers what can be, and says by plugin why the others cannot."""
    wrong: dict[str, str] = {}
    for found in architectures(plugins).values():
        try:
            _register(found)
        except PluginError as error:
            wrong |= {one.plugin.name: str(error) for one in found}
    return wrong


def register_named(plugins: Plugins) -> None:
    """As :func:`register_architectures`, for the plugins that a run uses. Raises PluginError."""
    for found in architectures(plugins.plugins).values():
        _register(found)


def check_reopens(model: Any, plugins: Plugins) -> None:
    """Refuses a model whose folder could not be opened again, and notes in its configuration the plugin
    that opens it. Raises SpecError, PluginError."""
    import transformers

    if not isinstance(model, transformers.PreTrainedModel):
        raise SpecError(
            f"a model is a PreTrainedModel of transformers, not a {type(model).__name__}"
        )
    own, config = type(model), type(model.config)
    kind = model.config.model_type
    found = architectures(plugins.plugins).get(kind)
    known = kind in transformers.CONFIG_MAPPING and getattr(transformers, own.__name__, None) is own
    if known and found is None:
        return
    lost = f"a model of the class {_place(own)} could not be opened again"
    if found is None:
        raise SpecError(
            f"{lost}: no plugin of this run declares the model_type '{kind}' with it, and transformers "
            "does not have it",
            hint=f"declare it by the plugin's hook engine_architectures: Architecture('{kind}', "
            f"config='{_place(config)}', model='{_place(own)}')",
        )
    _register(found)
    declared = (found[0].config(), *found[0].trained())
    if config is not declared[0] or own not in declared[1:]:
        raise SpecError(
            f"{lost}: its config is a {_place(config)}, and the plugin {found[0].plugin} declares "
            f"'{kind}' with {', '.join(map(_place, declared))}",
            hint="build what is declared, or declare what is built",
        )
    plugin = found[0].plugin
    setattr(model.config, _FIELD, {part: getattr(plugin, part) for part in _PARTS})


def model_class(config: Any, name: str) -> type[Any] | None:
    """The class of this name that opens a model of a transformers config; None if there is none."""
    import transformers

    own = type(config)
    if _is_transformers(own):
        return getattr(transformers, name, None)
    mappings: tuple[Any, ...] = (
        transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
        transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    )
    registered = (mapping[own] for mapping in mappings if own in mapping)
    return next((cls for cls in registered if cls.__name__ == name), None)


def unnamed_plugin(found: Sequence[FoundArchitecture]) -> str:
    """Says which line of a spec lets its run open models of an architecture that is installed."""
    names = [one.plugin.name for one in found]
    return (
        f"the architecture '{found[0].declared.model_type}' comes from the installed plugin "
        f"{' or '.join(map(repr, names))}; add it to the spec: `plugins: [{names[0]}]`"
    )


def missing_plugin(fields: Mapping[str, Any]) -> str | None:
    """Which plugin opens a model that transformers does not know, and how to get it, in one line.

    ``fields``: those of its config.json. None if they name no plugin.
    """
    installed, kind = Plugins.discover(), str(fields.get("model_type"))
    found = architectures(installed.plugins).get(kind)
    if found is not None:
        return unnamed_plugin(found)
    noted = fields.get(_FIELD)
    told = [str(noted.get(part)) for part in _PARTS] if isinstance(noted, Mapping) else []
    if not told or not all(map(_NAME.fullmatch, told)):
        return None
    name, distribution, made_by = told
    needs = (
        f"the architecture '{kind}' needs the plugin '{name}' of {distribution} {made_by}, which"
    )
    if any(plugin.name == name for plugin in installed.plugins):
        return f"{needs} does not declare it here: {installed.problem(name) or 'update it'}"
    return f"{needs} is not installed: pip install {distribution}"


def _register(found: Sequence[FoundArchitecture]) -> None:
    """Raises PluginError for a name that is taken and for classes that cannot be loaded."""
    from transformers import (
        CONFIG_MAPPING,
        MODEL_FOR_CAUSAL_LM_MAPPING,
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
    )

    one, *others = found
    kind, plugin = one.declared.model_type, one.plugin
    if others:
        raise PluginError(
            f"two plugins declare the architecture '{kind}': {plugin} and {others[0].plugin}",
            hint="leave one of them out of `plugins:`, or uninstall it",
        )
    opened_by = {
        AutoModelForCausalLM: one.declared.model,
        AutoModel: one.declared.backbone,
        AutoModelForSequenceClassification: one.declared.scalar,
    }
    config = one.config()
    classes = {auto: one.load(path) for auto, path in opened_by.items() if path}
    if kind in CONFIG_MAPPING:
        known = CONFIG_MAPPING[kind]
        if known is config and config in MODEL_FOR_CAUSAL_LM_MAPPING:
            return
        if _place(known) != _place(config):  # else its module was imported anew
            owner = f"transformers {version('transformers')}"
            raise PluginError(
                f"plugin {plugin}: the architecture '{kind}' is also one of "
                f"{owner if _is_transformers(known) else _place(known)}",
                hint="give the plugin's another model_type",
            )
    try:
        for auto, cls in classes.items():
            auto.register(config, cls)
        AutoConfig.register(kind, config)
    except (AttributeError, TypeError, ValueError) as error:
        raise PluginError(
            f"plugin {plugin}: transformers cannot take its architecture '{kind}': {error}"
        ) from error


def _place(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _is_transformers(cls: type[Any]) -> bool:
    return cls.__module__.split(".")[0] == "transformers"
