"""Markdown reference of contracts, values and public names, from signatures and docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter

from engine.contracts import amounts, hooks as hookspecs
from engine.contracts.config import Config
from engine.contracts.context import Context
from engine.contracts.hooks import HOOK_OF_KIND
from engine.spec.composition import BASES

_PACKAGES = ("engine", "engine.modeling", "engine.hardware", "engine.files", "engine.testing")
"""Packages with public names."""
_WRITTEN: Mapping[str, tuple[str, ...]] = {
    "Count": ("512", "16k", "4M"),
    "Number": ("0.1", "3e-4", "2k"),
    "Share": ("0.01", "1%"),
    "Amount": ("200 steps", "4M tokens", "2 epochs", "90 min", "2h", "10%", "{tokens: 4M}"),
    "Interval": ("50 steps", "1M tokens", "10 min", "5%"),
    "VariableName": ("HUB_TOKEN",),
}
"""Examples of what a spec may write, by type of value."""


def contracts_reference() -> str:
    """What every component has; then, by kind, what its configuration and what its factory returns may
    define, and who calls it."""
    homes = dict(_homes("engine"))
    parts = ["### Every component\n", *_class(Config), *_class(Context)]
    for kind, hook in HOOK_OF_KIND.items():
        about = inspect.getdoc(getattr(hookspecs, hook)) or ""
        base = BASES.get(kind, Config)
        parts.append(f"### {kind}\n")
        parts.append(f"`{hook}`: {_line(about)} Its configuration subclasses `{base.__name__}`.\n")
        if base is not Config:
            parts += _class(base, {"type_name"})  # which all have, for messages
        shown: set[str] = set()
        for name in re.findall(r"``(\w+)``", about):
            if name in homes:
                parts += _contract(homes[name], name, shown)
    return "\n".join(parts)


def values_reference() -> str:
    """A table of the types of values, with what a spec may write, and what that is."""
    lines = ["| type | what it is | a spec writes |", "|---|---|---|"]
    for name, written in _WRITTEN.items():
        read = TypeAdapter(getattr(amounts, name)).validate_python
        values = [(text, str(read(yaml.safe_load(text)))) for text in written]
        examples = (f"`{text}`" + f" ({value})" * (text != value) for text, value in values)
        lines.append(f"| `{name}` | {_line(_doc(amounts, name))} | {', '.join(examples)} |")
    return "\n".join(lines) + "\n"


def names_reference() -> str:
    """Tables of all public names, each with the first sentence of its docstring."""
    parts = []
    for package in _PACKAGES:
        lines = [f"### `{package}`", "", "| name | what it is |", "|---|---|"]
        homes = dict(_homes(package))
        for name in sorted(homes, key=str.lower):
            about = _line(_doc(homes[name], name)).replace("|", "\\|")
            first = re.split(r"(?<=\.) (?=[A-Z`])", about)[0]
            lines.append(f"| `{name}{_arguments(getattr(homes[name], name), name)}` | {first} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _contract(home: ModuleType, name: str, shown: set[str]) -> Iterator[str]:
    """What a factory returns: a class, without the members ``shown`` before, or a type of function."""
    found = getattr(home, name)
    if isinstance(found, type):
        yield from _class(found, shown)
    else:
        yield f"**`{name}`**: {_line(_doc(home, name))}\n"


def _class(cls: type[Any], shown: set[str] | None = None) -> Iterator[str]:
    """A class's docstring and its members."""
    first, *more = re.split(r"\n\s*\n", inspect.getdoc(cls) or "")
    yield f"**`{cls.__name__}`**: {_line(first)}\n"
    yield from (f"{_line(paragraph)}\n" for paragraph in more)
    members = dict(_members(cls))
    wanted = [name for name in members if shown is None or name not in shown]
    if shown is not None:
        shown.update(members)
    if wanted:
        yield "\n".join(members[name] for name in wanted) + "\n"


def _members(cls: type[Any]) -> Iterator[tuple[str, str]]:
    """The documented members of a class, those of its bases in the engine first, by name, each as a
    line."""
    own, *bases = (base for base in cls.__mro__ if base.__module__.startswith("engine."))
    for base in (*(base for base in bases if base is not Config), own):
        described = _described(base)
        fields = base.model_fields if issubclass(base, BaseModel) else {}
        for name in inspect.get_annotations(base):
            if name in fields:
                yield name, f"- field `{name}`: {_line(fields[name].description or '')}"
        for name, value in vars(base).items():
            if name == "__call__" or not name.startswith("_"):
                if shown := _shown(name, value):
                    required = " (required)" * getattr(value, "__isabstractmethod__", False)
                    yield name, f"- `{shown}`{required}: {_line(inspect.getdoc(value) or '')}"
                elif name in described:
                    yield name, f"- `{name} = {value!r}`: {_line(described[name])}"


def _shown(name: str, value: Any) -> str | None:
    """A method with its signature, or a property with its type; None for anything else."""
    if isinstance(value, classmethod):
        value = value.__func__
    if isinstance(value, FunctionType):
        signature = inspect.signature(value)
        _, *given = signature.parameters.values()
        plain = [
            one.replace(
                annotation=_Plain(one.annotation),
                default=_Plain("…") if isinstance(one.default, FunctionType) else one.default,
            )
            for one in given
        ]
        returned = _Plain(signature.return_annotation)
        return f"{name}{signature.replace(parameters=plain, return_annotation=returned)}"
    if isinstance(value, property) and value.fget:
        return f"{name}: {inspect.get_annotations(value.fget)['return']}"
    return None


class _Plain(str):
    """An annotation that a signature shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _homes(name: str) -> Iterator[tuple[str, ModuleType]]:
    """The public names of a package, each with the module that defines it."""
    package = importlib.import_module(name)
    file = Path(str(package.__file__))
    stub = file.with_suffix(".pyi")
    for line in ast.parse((stub if stub.exists() else file).read_text(encoding="utf-8")).body:
        if isinstance(line, ast.ImportFrom) and line.module != "__future__":
            above = f"{name}." if line.level else ""
            module = importlib.import_module(f"{above}{line.module}")
            yield from ((a.name, module) for a in line.names if a.name in package.__all__)


def _arguments(value: Any, name: str) -> str:
    """The names of a function's arguments, in brackets; empty for anything else."""
    value = inspect.unwrap(value)
    if not isinstance(value, FunctionType) or value.__name__ != name:
        return ""
    return f"({', '.join(inspect.signature(value).parameters)})"


def _doc(module: ModuleType, name: str) -> str:
    """The docstring of a name, or the one below its assignment."""
    value = inspect.unwrap(getattr(module, name))
    own = isinstance(value, type | FunctionType) and inspect.getdoc(value)
    return own or _described(module).get(name, "")


def _described(source: ModuleType | type[Any]) -> dict[str, str]:
    """The strings below assignments in a module or class, by name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(source))).body
    if isinstance(source, type):
        (of_class,) = body
        body = of_class.body  # type: ignore[attr-defined]
    return dict(_strings(body))


def _strings(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for assigned, below in pairwise(body):
        if isinstance(below, ast.Expr) and isinstance(assigned, ast.Assign | ast.AnnAssign):
            targets = assigned.targets if isinstance(assigned, ast.Assign) else [assigned.target]
            text = str(ast.literal_eval(below.value))
            yield from ((ast.unparse(target), text) for target in targets)


def _line(text: str) -> str:
    """A docstring's text as Markdown, in one line."""
    plain = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return " ".join(plain.split())
