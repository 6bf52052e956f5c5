"""One process's life in a run: joins the others, opens folder and log, runs, and sums up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Collection
from pathlib import Path

from engine.errors import EngineError
from engine.folder import RunFolder
from engine.launch import Process
from engine.log import Display, EventLog, JsonDisplay, RichDisplay, SilentDisplay
from engine.run import Run
from engine.spec import Loaded
from engine.summary import print_summary


def run_spec(
    loaded: Loaded,
    runs: Path,
    process: Process,
    *,
    only: str | None = None,
    rerun: Collection[str] = (),
    as_json: bool = False,
    inexact: bool = False,
) -> int:
    """Runs a spec in ``runs/NAME`` and gives the exit status. Raises EngineError.

    ``inexact`` resumes with other versions than a checkpoint was written with.
    """
    # Outside a training loop, which saves first, a signal ends the run between two writes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = RunFolder(runs / loaded.spec.name)
    first = process.rank == 0
    process.join()
    with contextlib.ExitStack() as stack:
        stack.callback(process.leave)
        if first:
            stack.enter_context(folder.locked())
        process.barrier()
        display: Display = SilentDisplay()
        if first:
            display = JsonDisplay() if as_json else RichDisplay()
        log = EventLog(folder.path / "events.jsonl" if first else None, display)
        stack.callback(log.close)
        try:
            run = Run(loaded, folder, process, log, inexact=inexact)
            status = run.execute(only=only, rerun=rerun)
        except EngineError as error:
            log.emit("failed", error=str(error))
            raise
        except KeyboardInterrupt:
            log.emit("interrupted")
            status = "stopped"
    if first and not as_json:
        print_summary(folder, loaded.spec, status)
    return 0 if status == "done" else 1
