"""Builds the benchmarks of records, the standard ones and a user's own."""

from __future__ import annotations

from pathlib import Path

from engine import Context
from engine_evals.benchmark import BenchmarkEvaluator, Task
from engine_evals.choice import ChoiceTask
from engine_evals.config import Benchmark, Mmlu, OwnBenchmark
from engine_evals.generation import GenerationTask
from engine_evals.record import ChoiceRecord, GenerationRecord, load, packaged


def build(config: Benchmark, context: Context) -> BenchmarkEvaluator:
    """The evaluator of the config's ``type``, or of its record."""
    name, place = str(getattr(config, "type", "")), config.rows
    if isinstance(config, OwnBenchmark):
        file = Path(config.file)
        name, record = file.stem, load(file)
        if place is None and record.rows.path is not None:
            place = str(file.parent / record.rows.path)
    else:
        record = packaged(name)
    parts = config.subjects if isinstance(config, Mmlu) else ()
    return BenchmarkEvaluator(
        name, record, _task(record), shots=config.shots, place=place, parts=parts
    )


def _task(record: ChoiceRecord | GenerationRecord) -> Task:
    return ChoiceTask(record) if isinstance(record, ChoiceRecord) else GenerationTask(record)
