"""Runs the runs of a sweep in this process, which has imported torch already."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine_scaling.runner import Launch, Outcome, with_event

from engine.cli import main


def launched(seen: list[str] | None = None) -> Launch:
    """See :data:`engine_scaling.runner.Launch`; the specs that are run are noted in ``seen``."""

    def launch(
        arguments: Sequence[str], tell: Callable[[Mapping[str, Any]], None]
    ) -> tuple[int, str]:
        if seen is not None:
            seen.append(arguments[1].rsplit("/", 1)[-1].removesuffix(".yaml"))
        status, out, told = 0, io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            try:
                main(list(arguments))
            except SystemExit as ended:
                status = int(ended.code or 0)
        for line in out.getvalue().splitlines():
            with_event(line.encode(), tell)
        return status, told.getvalue()

    return launch


class Watched:
    """A watcher that counts the steps that it was told of."""

    def __init__(self) -> None:
        self.steps = 0

    def started(self, job: Any) -> None:
        pass

    def event(self, job: Any, event: Mapping[str, Any]) -> None:
        self.steps += event["event"] == "step"

    def ended(self, outcome: Outcome) -> None:
        pass
