"""Calls observer hooks. An error in one is logged, and the run continues."""

from __future__ import annotations

from typing import Any

from engine.event_log import EventLog
from engine.processes.process import Process
from engine.registry import Plugins


class Observers:
    """The observer hooks of a run's plugins, called on rank 0."""

    def __init__(self, plugins: Plugins, log: EventLog, process: Process) -> None:
        self._hooks = plugins.hooks()
        self._log = log
        self._active = process.rank == 0

    def tell(self, hook: str, **arguments: Any) -> None:
        """Calls each implementation separately, so that an error in one does not affect the others."""
        self.ask(hook, **arguments)

    def ask(self, hook: str, **arguments: Any) -> list[Any]:
        """What each implementation returns, called as by :meth:`tell`; without None."""
        if not self._active:
            return []
        answers = []
        for implementation in getattr(self._hooks.hook, hook).get_hookimpls():
            wanted = {name: arguments[name] for name in implementation.argnames}
            try:
                answers.append(implementation.function(**wanted))
            except Exception as error:  # an observer must never change a result
                self._log.warn(
                    f"plugin '{implementation.plugin_name}' failed in {hook}: "
                    f"{type(error).__name__}: {error}"
                )
        return [answer for answer in answers if answer is not None]
