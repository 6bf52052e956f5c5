"""One process's life in a run: joins the others, opens folder and log, runs, and sums up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Collection
from pathlib import Path

from engine.devices import remark
from engine.errors import EngineError, RunError, SpecError
from engine.folder import RunFolder
from engine.launch import Process
from engine.log import Display, EventLog, JsonDisplay, RichDisplay, SilentDisplay
from engine.run import Run
from engine.spec import Loaded, Spec
from engine.summary import print_summary
from engine.watch import Watch


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
) -> int:
    """Runs a spec in ``runs/NAME`` and gives the exit status. Raises EngineError.

    ``inexact`` resumes with other versions than a checkpoint was written with; a process that is not
    heard of for ``timeout`` seconds counts as lost.
    """
    _check_names(loaded.spec, only, rerun)
    if process.restarted:  # what was to start anew has been started
        rerun = ()
    folder = RunFolder(runs / loaded.spec.name)
    first = process.rank == 0
    process.join()
    with contextlib.ExitStack() as stack:
        # Outside a training loop, which saves first, a signal ends the run between two writes.
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
        if first and (wondered := remark(process.device)):
            log.warn(wondered)
        try:
            run = Run(loaded, folder, process, log, inexact=inexact)
            status = run.execute(only=only, rerun=rerun)
        except EngineError as error:
            _note_failure(log, error)
            raise
        except OSError as error:  # what can go wrong with a file can go wrong with each
            failed = _disk_failed(folder.path, error)
            _note_failure(log, failed)
            raise failed from error
        except KeyboardInterrupt:
            log.emit("interrupted")
            status = "stopped"
    if first and not as_json:
        print_summary(folder, loaded.spec, status)
    return 0 if status == "done" else 1


def _note_failure(log: EventLog, error: EngineError) -> None:
    with contextlib.suppress(EngineError):  # it may be the log that cannot be written
        log.emit("failed", error=str(error))


def _disk_failed(folder: Path, error: OSError) -> RunError:
    where = error.filename or folder
    return RunError(
        f"{where}: {error.strerror or error}",
        mend="make room or mend the rights, and run again: what was saved is whole",
    )


def _check_names(spec: Spec, only: str | None, rerun: Collection[str]) -> None:
    """Raises SpecError for a stage on the command line that the run would not come to."""
    for option, name in [("--stage", only), *(("--rerun", name) for name in rerun)]:
        if name is not None and name not in spec.stages:
            raise SpecError(f"{option} {name}: no such stage; stages: {', '.join(spec.order)}")
        if only is not None and name != only:
            raise SpecError(f"{option} {name}: --stage {only} leaves it out")
