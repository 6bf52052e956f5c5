"""The plugin author's guide as data: its example of each kind of component, and the spec with them.

``guide.md`` is a link to ``contrib/README.md``; a wheel has a copy of that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

_SECTION = re.compile(r"^#{2,3} (?P<title>.+)\n(?P<text>(?:(?!^#{2,3} ).*\n)*)", re.M)
_BLOCK = re.compile(r"^```(?:python|yaml)\n(.*?)^```$", re.S | re.M)
_LINE = 100
_FILE = re.compile(r"^# (?:engine_example/)?(\S+\.(?:py|yaml))\n", re.M)


@dataclass(frozen=True, slots=True)
class Example:
    """The guide's component of a ``kind``.

    ``type``, ``config`` and ``summary`` are those of its record, the ``config`` without the module;
    ``config_code`` is the class, ``code`` the whole module with the factory.
    """

    kind: str
    hook: str
    type: str
    config: str
    summary: str
    config_code: str
    code: str

    def module(self, package: str) -> str:
        """The module ``code`` of another package, described by the summary."""
        space = "\n" if self.code.startswith(("import", "from")) else "\n\n"
        return f'"""{self.summary}"""\n{space}{self.code.replace("engine_example", package)}'


@cache
def examples() -> Mapping[str, Example]:
    """The example of each kind, by kind."""
    found = {}
    for title, files in _sections():
        declared = _declared(files.get("plugin.py", ""))
        if declared:
            hook, (type_name, config, factory, summary) = declared
            found[title] = Example(
                kind=title,
                hook=hook,
                type=type_name,
                config=config.partition(":")[2],
                summary=summary,
                config_code=_without_imports(files["config.py"]),
                code=files[factory.partition(":")[0].partition(".")[2] + ".py"].strip() + "\n",
            )
    return found


@cache
def spec() -> str:
    """The spec that uses the example of each kind."""
    return next(files["example.yaml"] for _, files in _sections() if "example.yaml" in files)


def imports(code: str) -> str:
    """The import statements that configurations need, in the order in which ruff sorts them."""
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    needed: dict[str, set[str]] = {}
    for _, files in _sections():
        for node in ast.parse(files.get("config.py", "")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                needed.setdefault(node.module, set()).update({a.name for a in node.names} & used)
    typing = needed.pop("typing", None)
    lines = [_import("typing", typing), ""] if typing else []
    lines += [_import(module, names) for module, names in sorted(needed.items()) if names]
    return "\n".join(lines)


def _import(module: str, names: set[str]) -> str:
    line = f"from {module} import {', '.join(sorted(names))}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in sorted(names)), ")"])


@cache
def _sections() -> list[tuple[str, Mapping[str, str]]]:
    """The sections with examples: their titles in kebab-case, and the files in them by path."""
    text = (resources.files("engine_tools") / "guide.md").read_text(encoding="utf-8")
    found: list[tuple[str, Mapping[str, str]]] = []
    for section in _SECTION.finditer(text):
        files = dict(_files(section["text"]))
        if files:
            found.append((section["title"].lower().replace(" ", "-"), files))
    return found


def _files(text: str) -> Iterator[tuple[str, str]]:
    for block in _BLOCK.findall(text):
        _, *parts = _FILE.split(block)
        yield from zip(parts[::2], parts[1::2], strict=True)


def _declared(code: str) -> tuple[str, list[str]] | None:
    """The hook that declares a component, and the arguments of the record; None if there is none."""
    for function in ast.parse(code).body:
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Component":
                assert isinstance(function, ast.FunctionDef)
                return function.name, [ast.literal_eval(argument) for argument in node.args]
    return None


def _without_imports(code: str) -> str:
    lines = code.splitlines(keepends=True)
    first = next(n for n in ast.parse(code).body if not isinstance(n, ast.Import | ast.ImportFrom))
    return "".join(lines[first.lineno - 1 :]).strip() + "\n"
