"""Runs a spec's prepare stage in forked children that kill themselves at one point of it.

    python killed_prepares.py SPEC FOLDER

Prints, for each point, whether the stage then stands as done and whether what it wrote is whole;
and, after the spec is run again, the run's folder and the checksums of what was prepared.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.data import records
from engine.data.corpus import documents, prepare, reading, sharding, store
from engine.data.corpus.verbs import PartedCorpus
from engine.data.shards import ShardWriter
from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import load_spec
from engine.storage import manifest
from engine.storage.run_folder import RunFolder

# The call in which it dies, counted from 1, and whether it dies before or after the work.
POINTS: dict[str, tuple[Any, str, int, str]] = {
    "among the records": (records, "unreadable", 20, "before"),
    "before the second part": (reading._Reading, "__call__", 2, "before"),
    "inside a table": (store, "os.replace", 1, "before"),
    "between a table and its checksum": (store, "os.replace", 1, "after"),
    "inside a step": (PartedCorpus, "shuffle", 1, "before"),
    "after a step": (documents.Documents, "carry_out", 1, "after"),
    "before copies are taken out": (documents._Copies, "columns", 1, "before"),
    "after the tokenizer is trained": (prepare, "_check_tokenizer", 1, "after"),
    "before documents are tokens": (sharding, "_encoder", 1, "before"),
    "before tokens are in order": (PartedCorpus, "tables", 1, "before"),
    "inside a shard": (ShardWriter, "add", 30, "after"),
    "inside a file of a shard": (ShardWriter, "_flush", 1, "after"),
    "between two sources": (prepare, "write_shards", 1, "after"),
    "after the last shard": (prepare, "write_shards", 2, "after"),
    "before the manifest": (manifest, "complete", 1, "before"),
    "after the manifest": (manifest, "complete", 1, "after"),
    "before the rename": (prepare, "os.replace", 1, "before"),
    "after the rename": (prepare, "os.replace", 1, "after"),
    "before it is recorded as done": (RunFolder, "record", 2, "before"),
}


def main(spec: Path, folder: Path) -> None:
    loaded = load_spec(spec)
    with contextlib.redirect_stdout(io.StringIO()):  # once here: children need not each import
        run_spec(loaded, folder / "first", Process(), as_json=True)
    found = {}
    for point, where in POINTS.items():
        runs = folder / point.replace(" ", "-")

        def run(runs: Path = runs) -> None:
            run_spec(loaded, runs, Process(), as_json=True)

        assert _in_child(lambda where=where, run=run: (_arm(*where), run())) == -signal.SIGKILL
        run_folder = RunFolder(runs / loaded.spec.name)
        standing = run_folder.standing("corpus")
        left = manifest.read(run_folder.path / "corpus")
        if left is not None:
            manifest.verify(run_folder.path / "corpus")
        assert _in_child(run) == 0
        found[point] = {
            "done": standing is not None and standing.status == "done",
            "whole": left is not None,
            "names": sorted(path.name for path in run_folder.path.iterdir()),
            "files": manifest.checksums(run_folder.path / "corpus"),
        }
    print(json.dumps(found))


def _arm(owner: Any, name: str, call: int, when: str) -> None:
    """Makes the so-many-th call of a function deadly."""
    module, _, name = name.rpartition(".")
    holder = SimpleNamespace(**vars(getattr(owner, module))) if module else owner
    real: Callable[..., Any] = getattr(holder, name)
    calls = 0

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        result = None if (calls, when) == (call, "before") else real(*arguments, **options)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, deadly)
    if module:
        setattr(owner, module, holder)  # this module's own view of the other, nobody else's


def _in_child(work: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
