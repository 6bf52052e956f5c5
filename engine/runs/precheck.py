"""Asks a spec's plugins whether the run can succeed, before it starts."""

from __future__ import annotations

from pathlib import Path

from engine.errors import RunError, SpecError
from engine.spec.loading import Loaded, LoadedSituation
from engine.storage.run_folder import RunFolder


def check_run(
    loaded: Loaded, runs: Path, processes: int, local_processes: int, only: str | None = None
) -> None:
    """Raises SpecError with every problem that plugins find and the user has not waived."""
    order = [name for name in loaded.spec.order if only in (None, name)]
    stages = [name for name in order if not _done(loaded, runs, name)]
    situation: LoadedSituation = loaded.situation(processes, local_processes, stages)
    hook = loaded.plugins.hooks().hook
    found = [p for one in hook.engine_check(spec=loaded.spec, situation=situation) for p in one]
    allows = loaded.permissions.allows
    left = [p for p in found if p.waiver is None or not allows(p.waiver)]
    if left:
        hints = dict.fromkeys(p.hint for p in left)
        raise SpecError(*(p.what for p in left), hint="; ".join(hints))


def _done(loaded: Loaded, runs: Path, name: str) -> bool:
    try:
        standing = RunFolder(runs / loaded.spec.name).standing(name)
    except RunError:  # a damaged record, which the run itself will report
        return False
    return standing is not None and standing.status == "done"
