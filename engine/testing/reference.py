"""Markdown reference of specs, hooks and plugins, generated from their declarations.

``python -m engine.testing.reference README.md`` rewrites it between the marks in a file::

    <!-- reference: plugin lm -->
    <!-- end of reference -->
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from engine.contracts import hooks as hookspecs
from engine.contracts.amounts import Amount
from engine.contracts.component import Component, Kind
from engine.contracts.config import Config, Of, StageRef
from engine.contracts.spec import Evaluate, Prepare, Spec, Train
from engine.errors import PluginError
from engine.registry import Plugin, Plugins
from engine.testing.api_reference import contracts_reference, names_reference, values_reference

_MARKED = re.compile(
    r"(?P<head><!-- reference: "
    r"(?P<what>hooks|spec|contracts|values|names|plugin (?P<name>[\w-]+)) -->\n)"
    r".*?(?P<tail><!-- end of reference -->)",
    re.DOTALL,
)
_RUNTIME = (
    "A change of a field marked *runtime* continues a stage; of any other field it makes another "
    "stage of it, which `--rerun` starts."
)
_PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", Any: "anything"}
_PLURAL = {"text": "texts", "number": "numbers", "whole number": "whole numbers"}


def refreshed(text: str) -> str:
    """A Markdown text with every marked part generated again. Raises PluginError."""

    def write(found: re.Match[str]) -> str:
        name = found["name"]
        made = plugin_reference(name) if name else _REFERENCES[found["what"]]()
        return f"{found['head']}\n{made}\n{found['tail']}"

    return _MARKED.sub(write, text)


def hooks_reference() -> str:
    """A table of all hooks with their arguments and purpose."""
    lines = ["| hook | what it is for |", "|---|---|"]
    for name, hook in vars(hookspecs).items():
        if hasattr(hook, "engine_spec"):
            arguments = ", ".join(inspect.signature(hook).parameters)
            lines.append(f"| `{name}({arguments})` | {_cell(inspect.getdoc(hook) or '')} |")
    return "\n".join(lines) + "\n"


def spec_reference() -> str:
    """All fields of a spec and of the three verbs of its stages."""
    installed = Plugins.discover().selected(())
    parts = [_table(Spec, installed), f"{_RUNTIME}\n"]
    for verb, config in (("prepare", Prepare), ("train", Train), ("evaluate", Evaluate)):
        parts += [f"### `{verb}`\n", f"{inspect.cleandoc(config.__doc__ or '')}\n"]
        parts += _tables(config, installed)
    return "\n".join(parts)


def plugin_reference(name: str) -> str:
    """A plugin's components with all fields, its commands and its observer hooks.

    Raises PluginError if it is not installed or cannot be loaded.
    """
    installed = Plugins.discover()
    plugin = next(p for p in installed.selected([name]).plugins if p.name == name)
    parts = [_overview(plugin)] if plugin.components else []
    for kind, components in plugin.components.items():
        for component in components:
            config = installed.of_kind(kind)[component.type].load_config()
            parts.append(_component(plugin, kind, component, config, installed))
    commands = plugin.commands_by_words()
    rows = [f"- `engine {words}`: {_cell(command.help or '')}" for words, command in commands]
    if rows:
        parts.append("\n".join(["### Commands", "", *rows, ""]))
    watched = [f"`{hook}`" for hook in _implemented(plugin) if _is_observer(hook)]
    if watched:
        parts.append(f"### Watches\n\n{', '.join(watched)}\n")
    return "\n".join(parts)


def nested(config: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The configurations inside a configuration, except those of components."""
    for info in config.model_fields.values():
        if not any(isinstance(m, Of) for m in info.metadata):
            for part in _models(info.annotation):
                yield part
                yield from nested(part)


def _overview(plugin: Plugin) -> str:
    lines = ["| kind | type | what it is |", "|---|---|---|"]
    lines += [
        f"| {kind} | `{component.type}` | {_cell(component.summary)} |"
        for kind, components in plugin.components.items()
        for component in components
    ]
    lines += ["", _RUNTIME]
    return "\n".join(lines) + "\n"


def _component(
    plugin: Plugin, kind: Kind, component: Component, config: type[Config], installed: Plugins
) -> str:
    lines = [f"### {kind} `{component.type}`", "", inspect.cleandoc(config.__doc__ or ""), ""]
    if component.extra:
        lines += [f"Needs `pip install '{plugin.distribution}[{component.extra}]'`.", ""]
    if component.default:
        lines += [f"Stands where a spec names no {kind}.", ""]
    if config.model_fields and kind in _runtime_kinds():
        lines += ["In a train stage all its fields are *runtime*.", ""]
    return "\n".join([*lines, *_tables(config, installed)])


def _tables(config: type[BaseModel], installed: Plugins) -> Iterator[str]:
    """The fields of a configuration, and of those inside it."""
    yield _table(config, installed)
    for part in dict.fromkeys(nested(config)):
        yield f"`{part.__name__}`: {inspect.cleandoc(part.__doc__ or '').replace('``', '`')}\n"
        yield _table(part, installed)


def _table(config: type[BaseModel], installed: Plugins) -> str:
    if not config.model_fields:
        return "No fields.\n"
    lines = ["| field | type | default | what it does |", "|---|---|---|---|"]
    for name, info in config.model_fields.items():
        of = next((m for m in info.metadata if isinstance(m, Of)), None)
        meaning = _cell(info.description or "")
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("runtime"):
            meaning += " (*runtime*)"
        what = _cell(_words(info.annotation, info.metadata))
        lines.append(f"| `{name}` | {what} | {_default(info, of, installed)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(info: FieldInfo, of: Of | None, installed: Plugins) -> str:
    if info.default is PydanticUndefined and info.default_factory is None:
        found = installed.default_of(of.kind) if of else None
        return f"`{found.component.type}`" if found else "required"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return ""
    return f"`{_cell(_yaml(value))}`"


def _yaml(value: Any) -> str:
    if isinstance(value, Amount):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    plain = to_jsonable_python(value, exclude_none=True)
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("...").removesuffix("\n")


def _words(annotation: Any, metadata: list[Any]) -> str:
    """A type in plain words, with its limits."""
    flat = [m for item in metadata for m in (getattr(item, "metadata", None) or [item])]
    for mark in flat:
        if isinstance(mark, Of):
            return mark.kind + (" or a prepare stage's name" if mark.or_stage else "")
        if isinstance(mark, StageRef):
            verbs = " or ".join(verb for verb in (mark.verb, mark.other) if verb)
            return f"name of a {verbs} stage"
    limits = _limits(flat)
    return _type(annotation) + (f", {limits}" if limits else "")


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0], list(arguments[1:]))
    if origin is Literal:
        *most, last = (f"`{a}`" for a in arguments)
        return f"{', '.join(most)} or {last}" if most else last
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in arguments if a is not types.NoneType)
    if origin in (tuple, list) and arguments:
        if len(arguments) == 1 or arguments[1] is Ellipsis:
            return f"list of {_plural(_type(arguments[0]))}"
        return f"list of {len(arguments)} {_plural(_type(arguments[0]))}"
    if origin is dict:
        return f"{_type(arguments[0])} → {_type(arguments[1])}"
    if annotation is Amount:
        return "amount"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{annotation.__name__}`"
    return _PLAIN.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _plural(words: str) -> str:
    first, comma, rest = words.partition(",")
    return _PLURAL.get(first, first) + comma + rest


def _limits(metadata: list[Any]) -> str:
    """Limits such as ``≥ 1, ≤ 8``; of several the narrowest."""
    lower: list[tuple[Any, bool]] = []
    lower += [(m.ge, False) for m in metadata if isinstance(m, annotated_types.Ge)]
    lower += [(m.gt, True) for m in metadata if isinstance(m, annotated_types.Gt)]
    upper: list[tuple[Any, bool]] = []
    upper += [(m.le, True) for m in metadata if isinstance(m, annotated_types.Le)]
    upper += [(m.lt, False) for m in metadata if isinstance(m, annotated_types.Lt)]
    words = []
    if lower:
        least, strict = max(lower)
        words.append(f"{'>' if strict else '≥'} {least:g}")
    if upper:
        most, inclusive = min(upper)
        words.append(f"{'≤' if inclusive else '<'} {most:g}")
    words += [f"at least {m.min_length}" for m in metadata if isinstance(m, annotated_types.MinLen)]
    return ", ".join(words)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif not any(isinstance(m, Of) for m in getattr(annotation, "__metadata__", ())):
        for argument in get_args(annotation):
            yield from _models(argument)


def _runtime_kinds() -> set[Kind]:
    """Kinds of component that a train stage has in a runtime field."""
    kinds: set[Kind] = set()
    for info in Train.model_fields.values():
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("runtime"):
            marks = [*info.metadata]
            for argument in get_args(info.annotation):
                marks += getattr(argument, "__metadata__", ())
            kinds |= {m.kind for m in marks if isinstance(m, Of)}
    return kinds


def _implemented(plugin: Plugin) -> list[str]:
    return [n for n, value in vars(plugin.module).items() if hasattr(value, "engine_impl")]


def _is_observer(hook: str) -> bool:
    return inspect.signature(getattr(hookspecs, hook)).return_annotation in (None, "None")


_REFERENCES: Mapping[str, Callable[[], str]] = {
    "hooks": hooks_reference,
    "spec": spec_reference,
    "contracts": contracts_reference,
    "values": values_reference,
    "names": names_reference,
}
"""What a mark without a plugin's name stands for."""


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def main(files: list[str]) -> None:
    """Generates the reference in these files again."""
    for file in map(Path, files):
        file.write_text(refreshed(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PluginError as error:
        sys.exit(str(error))
