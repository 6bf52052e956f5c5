"""Faults planted in right components, as a plugin's author might make them.

Each module beside this one has the right components of a kind and small changes that make them wrong.
The name of a faulty class or function is the component's type, its docstring says what is wrong. A
fault's ``shows`` gives a result of a run with a component: another one than with the right component.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from engine import Config

if TYPE_CHECKING:
    from engine.testing import StandAloneContext


@dataclass(frozen=True)
class Fault:
    """A wrong component; ``right``: the type of the right one; ``told``: words of the kit's message."""

    kind: str
    type: str
    says: str
    config: str
    factory: str
    right: str
    shows: Callable[[Maker], Any]
    told: str

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.type}"


class Planted:
    """The faults of a kind, and its right components by type with their configuration and factory."""

    def __init__(self, kind: str, config: type[Config]) -> None:
        self.kind, self._config = kind, config
        self.right_ones: dict[str, tuple[str, str]] = {}
        self.faults: list[Fault] = []

    def right(self, made: Any) -> Any:
        """Declares a right component."""
        return self.right_with(self._config)(made)

    def right_with(self, config: type[Config]) -> Callable[[Any], Any]:
        """Declares a right component with a configuration of its own."""

        def declare(made: Any) -> Any:
            self.right_ones[_type(made)] = (_place(config), _place(made))
            return made

        return declare

    def fault(self, shows: Callable[[Maker], Any], told: str = "", of: Any = None) -> Any:
        """Declares a fault ``of`` a right component, by default the first: a factory, or a
        configuration of the right factory."""
        right = _type(of) if of else next(iter(self.right_ones))

        def declare(made: Any) -> Any:
            config, factory = self.right_ones[right]
            if inspect.isclass(made) and issubclass(made, Config):
                config = _place(made)
            else:
                factory = _place(made)
            says = " ".join(made.__doc__.split())
            found = Fault(self.kind, _type(made), says, config, factory, right, shows, told)
            self.faults.append(found)
            return made

        return declare


class Maker:
    """Builds a component of a type as a run does, each time anew."""

    def __init__(self, kind: Any, type_: str) -> None:
        self.kind, self.type = kind, type_

    def __call__(self, context: StandAloneContext | None = None, **settings: Any) -> Any:
        return (context or kit()).build(self.kind, {"type": self.type, **settings})

    def config(self, **settings: Any) -> Any:
        return kit().config(self.kind, {"type": self.type, **settings})


@cache
def kit() -> StandAloneContext:
    """What components are built with."""
    return _plain()


def _plain() -> StandAloneContext:
    from engine.testing import (
        StandAloneContext,  # imports torch, which executors' processes do not need
    )

    return StandAloneContext()


def with_other_hashes(shows: Callable[[Any], Any], make: Maker) -> list[Any]:
    """Results of this process and of one whose texts have other hashes, as each Python's have."""
    from engine.testing.elsewhere import elsewhere

    return [shows(make), *elsewhere(shows, make.kind, make.config(), _plain())]


def result(shows: Callable[[Maker], Any], make: Maker) -> Any:
    """What a run gives, or how it fails."""
    try:
        return shows(make)
    except Exception as error:  # a wrong component may raise anything
        return f"{type(error).__name__}: {error}"


def alike(one: Any, other: Any) -> bool:
    """Whether two results are the same, up to rounding."""
    one, other = (value.tolist() if hasattr(value, "tolist") else value for value in (one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6) or one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(alike(v, other[k]) for k, v in one.items())
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def _type(made: Any) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", made.__name__)
    return words.replace("_", "-").lower()


def _place(made: Any) -> str:
    return f"{made.__module__}:{made.__name__}"
