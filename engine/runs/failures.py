"""Explains failures: which component an unexpected error comes from, and what helps where memory ran
out."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

from engine.contracts.component import Kind
from engine.contracts.config import Config
from engine.contracts.model_sizes import MICRO_TOKENS
from engine.contracts.spec import Train
from engine.errors import RunError
from engine.processes.process import Process
from engine.registry import Found
from engine.spec.loading import Loaded
from engine.storage.manifest import write_durably

_ON_A_CPU = "DefaultCPUAllocator: "
"""Part of the message of a CPU's RuntimeError; torch has an exception type only for accelerators."""
_CALLERS = frozenset({"wrapper", "inner"})
"""Names of functions that only call a method, besides those that begin with an underscore."""


@dataclass(frozen=True, slots=True)
class Built:
    """A component that a run has built: its ``name`` in messages, its ``package``, the code of its
    factory and of itself if it is a function, and a reference that does not keep it in memory."""

    name: str
    package: str
    codes: tuple[CodeType, ...]
    reference: weakref.ref[Any] | None

    @classmethod
    def of(cls, name: str, factory: Any, component: Any) -> Built:
        """Notes a component."""
        functions = [getattr(one, "func", one) for one in (factory, component)]
        codes = [code for one in functions if (code := getattr(one, "__code__", None))]
        package = str(getattr(functions[0], "__module__", "")).partition(".")[0]
        try:
            return cls(name, package, tuple(codes), weakref.ref(component))
        except TypeError:  # such as a tuple
            return cls(name, package, tuple(codes), None)

    def runs(self, frame: FrameType) -> bool:
        """Whether a frame is of a method of the component or of a module in it, or of its function or
        factory."""
        if frame.f_code in self.codes:
            return True
        own, component = frame.f_locals.get("self"), self.reference and self.reference()
        if own is None or component is None:
            return False
        inside = component.modules() if isinstance(component, nn.Module) else ()
        return own is component or any(own is module for module in inside)


def noted(built: list[Built], kind: Kind, found: Found, config: Config, context: Any) -> Any:
    """Calls a component's factory, and notes factory and component. Raises what the factory raises."""
    name = f"{kind} '{found.component.type}' ({found.plugin.distribution} {found.plugin.version})"
    factory = found.load_factory()
    number = len(built)  # a factory may build other components
    built.append(Built.of(name, factory, factory))
    component = factory(config, context)
    built[number] = Built.of(name, factory, component)
    return component


def explained(error: Exception, built: Sequence[Built], file: Path) -> RunError:
    """The error for a person, with the component that it comes from and the line of its author's code;
    ``file`` gets the whole traceback, unless the disk refuses."""
    hint = f"{file} has the whole traceback"
    try:
        write_durably(file, "".join(traceback.format_exception(error)))
    except OSError as refused:
        hint = f"the traceback could not be written: {refused.strerror}"
    frames = list(traceback.walk_tb(error.__traceback__))
    what = str(error).strip().splitlines()
    told = f"{type(error).__name__}{f': {what[0]}' if what else ''}"
    culprit, entered = _culprit(frames, built)
    own = frames[entered:]
    package = culprit.package if culprit else ""
    frame, line = [one for one in own if _package(one[0]) == package or one is own[0]][-1]
    place = f"{Path(frame.f_code.co_filename).name}:{line}"
    who = (
        "the engine failed"
        if culprit is None
        else f"{culprit.name} failed in {_method(own, culprit)}"
    )
    return RunError(f"{who}: {told} ({place})", hint=hint)


def _culprit(
    frames: Sequence[tuple[FrameType, int]], built: Sequence[Built]
) -> tuple[Built | None, int]:
    """The component that was entered last, and the number of its first frame since."""
    found: tuple[Built | None, int] = None, len(frames) - 1
    for number, (frame, _) in enumerate(frames):
        for one in built:
            if one is not found[0] and one.runs(frame):
                found = one, number
    return found


def _method(frames: Sequence[tuple[FrameType, int]], culprit: Built) -> str:
    """The first of the component's methods that is more than a wrapper of another."""
    names = [frame.f_code.co_name for frame, _ in frames if culprit.runs(frame)]
    plain = (name for name in names if name[0] not in "_<" and name not in _CALLERS)
    return next(plain, names[-1])


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


@contextmanager
def memory_errors_explained(
    loaded: Loaded, stage: str, config: Train, process: Process
) -> Iterator[None]:
    """Turns torch's out-of-memory errors into RunError with hints."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _ON_A_CPU not in str(error):
            raise
        reason = str(error).splitlines()[0].strip()
        situation = loaded.situation(process.world_size, process.local_world_size, [stage])
        hook = loaded.plugins.hooks().hook
        known = hook.engine_out_of_memory(spec=loaded.spec, stage=stage, situation=situation)
        raise RunError(
            "; ".join([f"{stage}: out of memory on {process.device}: {reason}", *known]),
            hint="; or ".join(_what_helps(config)),
        ) from error


def _what_helps(config: Train) -> Iterator[str]:
    yield f"lower `batch.micro_tokens` from {config.batch.micro_tokens or MICRO_TOKENS}"
    if not config.activation_checkpointing:
        yield "set `activation_checkpointing: true`"
    yield "let more processes share the weights: `strategy: {type: mesh, shard: N}`"
