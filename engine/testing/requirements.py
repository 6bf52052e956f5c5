"""What a check requires of a component, and what it says where that is not so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from engine.errors import EngineError

T = TypeVar("T")


def require(condition: object, contract: str) -> None:
    """Raises AssertionError with the part of the contract that is broken, if ``condition`` is false."""
    if not condition:
        raise AssertionError(f"broken contract: {contract}")


def works(what: str, call: Callable[[], T]) -> T:
    """What the call gives. Raises AssertionError with ``what`` and the error if it raises one."""
    try:
        return call()
    except EngineError:
        raise
    except Exception as error:  # a plugin's class may raise anything
        raise AssertionError(f"broken contract: {what}: {type(error).__name__}: {error}") from error


def require_json(value: Any, what: str) -> Any:
    """The value after a JSON round trip. Raises AssertionError if that changes it."""
    try:
        again = json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        again = error
    require(again == value, f"a JSON round trip preserves {what}: {value!r} became {again!r}")
    return again
