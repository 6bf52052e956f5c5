"""Declares every planted fault, and the right components, as components of a plugin."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from support.faults.fault import Fault, Planted

from engine import Component, hookimpl
from engine.contracts.hooks import HOOK_OF_KIND

PLANTED: list[Planted] = [
    import_module(f"support.faults.{kind.replace('-', '_')}").planted for kind in HOOK_OF_KIND
]
FAULTS: list[Fault] = [fault for planted in PLANTED for fault in planted.faults]


def _hook(planted: Planted) -> Callable[[], Any]:
    def declared() -> list[Component]:
        right = [
            Component(type_, config, factory, "Right.")
            for type_, (config, factory) in planted.right_ones.items()
        ]
        wrong = [Component(f.type, f.config, f.factory, f.says) for f in planted.faults]
        return right + wrong

    return hookimpl(declared)


globals().update({HOOK_OF_KIND[planted.kind]: _hook(planted) for planted in PLANTED})
