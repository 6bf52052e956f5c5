"""One process's part in a run: joins the others, opens folder and log, runs the spec, and sums up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Collection
from pathlib import Path

from engine.contracts.spec import Spec
from engine.errors import EngineError, RunError, SpecError
from engine.event_log import (
    Display,
    EventLog,
    JsonDisplay,
    RichDisplay,
    SilentDisplay,
)
from engine.hardware.devices import remark
from engine.processes.heartbeat import Watch
from engine.processes.process import Process
from engine.runs.failures import explained
from engine.runs.run import Run
from engine.spec.loading import Loaded
from engine.storage.run_folder import RunFolder


def run_spec(
    loaded: Loaded,
    runs: Path,
    process: Process,
    *,
    only: str | None = None,
    rerun: Collection[str] = (),
    as_json: bool = False,
    inexact: bool = False,
    timeout: float = 600.0,
    at_end: Callable[[RunFolder, str], None] = lambda folder, status: None,
) -> int:
    """Runs a spec in ``runs/NAME`` and returns the exit status. Raises EngineError.

    ``inexact`` resumes with other versions than a checkpoint was written with; a process without a
    heartbeat for ``timeout`` seconds counts as lost. ``at_end`` is called on rank 0 with the folder and
    the status.
    """
    _check_names(loaded.spec, only, rerun)
    if process.restarted:  # the first start has already removed what was to be rerun
        rerun = ()
    folder = RunFolder(runs / loaded.spec.name)
    first = process.rank == 0
    process.join()
    with contextlib.ExitStack() as stack:
        # Outside a training loop, which saves first, SIGTERM raises KeyboardInterrupt.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, before)
        stack.callback(process.leave)
        if process.world_size > 1:
            stack.callback(Watch(process, timeout).stop)
        process.first_alone(lambda: stack.enter_context(folder.locked()))
        display: Display = SilentDisplay()
        if first:
            display = JsonDisplay() if as_json else RichDisplay()
        log = EventLog(folder.path / "events.jsonl" if first else None, display)
        stack.callback(log.close)
        if first and (unused := remark(process.device)):
            log.warn(unused)
        run = Run(loaded, folder, process, log, inexact=inexact)
        try:
            status = run.execute(only=only, rerun=rerun)
        except EngineError as error:
            _note_failure(log, error)
            raise
        except OSError as error:  # any file of the run may be the one that fails
            failed = _disk_failed(folder.path, error)
            _note_failure(log, failed)
            raise failed from error
        except Exception as error:
            name = "traceback.txt" if first else f"traceback-{process.rank}.txt"
            failed = explained(error, run.built, folder.path / name)
            _note_failure(log, failed)
            raise failed from error
        except KeyboardInterrupt:
            log.emit("interrupted")
            status = "stopped"
    if first:
        at_end(folder, status)
    return 0 if status == "done" else 1


def _note_failure(log: EventLog, error: EngineError) -> None:
    with contextlib.suppress(EngineError):  # the log itself may be what cannot be written
        log.emit("failed", error=str(error))


def _disk_failed(folder: Path, error: OSError) -> RunError:
    where = error.filename or folder
    return RunError(
        f"{where}: {error.strerror or error}",
        hint="free disk space or fix permissions, and run again: what was saved is intact",
    )


def _check_names(spec: Spec, only: str | None, rerun: Collection[str]) -> None:
    """Raises SpecError for a stage on the command line that the run would not reach."""
    for option, name in [("--stage", only), *(("--rerun", name) for name in rerun)]:
        if name is not None and name not in spec.stages:
            raise SpecError(f"{option} {name}: no such stage; stages: {', '.join(spec.order)}")
        if only is not None and name != only:
            raise SpecError(f"{option} {name}: --stage {only} excludes it")
