"""Makes sources and processors again in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.contracts.component import Kind
from engine.contracts.config import Config
from engine.data.records import Say, silent
from engine.errors import RunError
from engine.registry import Plugins
from engine.runs.components import of_kind
from engine.spec.composition import Composer


@dataclass(frozen=True)
class Recipe:
    """A component as plain data: its ``kind``, its ``config`` with all fields, and the ``plugins`` that
    its spec may use, of which ``blocked`` are not imported."""

    kind: Kind
    config: Mapping[str, Any]
    stage: str
    seed: int
    plugins: tuple[str, ...]
    blocked: tuple[str, ...]

    def __call__(self, say: Say = silent) -> Any:
        """The component. Raises RunError."""
        plugins = Plugins.discover(self.blocked).selected(self.plugins)
        return WorkerContext(self.stage, self.seed, plugins, say).made(self.kind, self.config)


@dataclass(frozen=True)
class WorkerContext:
    """What a factory may use of an :class:`engine.Context` in a worker process."""

    stage: str
    seed: int
    plugins: Plugins
    say: Say
    rank: int = field(default=0, init=False)
    world_size: int = field(default=1, init=False)

    def made(self, kind: Kind, settings: Mapping[str, Any]) -> Any:
        """A component of settings as in a spec."""
        cls = Composer(self.plugins).config_class(kind, settings["type"])
        return self.component(kind, cls.model_validate(dict(settings)))

    def component(self, kind: Kind, config: Config) -> Any:
        """See :class:`engine.Context`."""
        found = self.plugins.of_kind(kind)[getattr(config, "type", "")]
        return of_kind(kind, config, found.load_factory()(config, self), found)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        raise RunError(
            f"{self.stage}: a source or processor uses `context.{name}`, which worker processes do not "
            "have",
            hint="prepare with `executor: {type: local, processes: 0}`, or make it a corpus step",
        )
