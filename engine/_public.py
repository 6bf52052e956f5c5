"""Resolves the public names that a stub lists, on first use.

Type checkers read the same stub, so there is one list. Only the standard library is used: a sandboxed
program imports the engine as a user who may be unable to read other packages.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LINE = re.compile(r"^from \.([\w.]+) import|\b(\w+) as \2\b", re.MULTILINE)


def public_names(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose ``__init__.py`` is ``file``.

    Its ``__init__.pyi`` has lines such as ``from .module import Name as Name``.
    """
    modules: dict[str, str] = {}
    module = ""
    for found in _LINE.finditer(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")):
        if found[1]:
            module = found[1]
        else:
            modules[found[2]] = f"{package}.{module}"
    names = sorted(modules)

    def resolve(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return resolve, lambda: names, names
