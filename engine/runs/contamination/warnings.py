"""Warns of what a model has already read in training: answers to held-out prompts, and items of
benchmarks that a spec names since its corpus was prepared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.contracts.config import Config
from engine.contracts.records import Text
from engine.contracts.scoring import BenchmarkTexts
from engine.contracts.spec import Prepare, Train
from engine.data.corpus.documents import found_by_last
from engine.data.corpus.parts import Part, table_of
from engine.data.corpus.prepare import trained_texts
from engine.data.corpus.steps import NamedProcessor, carried_out
from engine.data.corpus.store import Store, key_of
from engine.data.holdout import Answered
from engine.errors import RunError
from engine.runs.contamination.benchmarks import benchmark_texts, found_in, told
from engine.runs.context import RunContext
from engine.runs.lineage import corpora, heeded_as

_PORTION = 32 * 2**20
"""Characters of texts that are searched at once."""


def warn_of_answers(run: RunContext, name: str, config: Train) -> None:
    """Warns if a corpus that the stage's model learns from was prepared without leaving out the stage's
    held-out records, and contains some."""
    if not config.holdout:
        return
    for folder, heeds in corpora(run.folder.path, run.spec, name):
        records = run.held_out(name)
        if heeded_as(records) in heeds:
            continue
        answered = Answered(records)
        count = sum(map(answered.in_text, trained_texts(folder) if len(answered) else ()))
        if count:
            run.log.warn(
                f"{count:,} texts of {folder} have a prompt that '{name}' holds out, and its "
                "answer: the model has read them; prepare that corpus again with --rerun in a spec "
                "that has this stage, and train again from there",
                stage=name,
            )


def warn_of_benchmarks(run: RunContext, name: str, config: Prepare) -> None:
    """Warns if a finished corpus, whose documents were searched for benchmarks, has items of others
    that the spec names since. The stage's record keeps what was found, so that each is searched for
    once."""
    standing = run.folder.standing(name)
    searching = next((one for one in config.processors if one.searches_benchmarks), None)
    if standing is None or searching is None:
        return
    known = standing.summary.get("benchmarks", [])
    digests = {one["digest"] for one in known}
    try:
        asked = benchmark_texts(run)
    except RunError:  # such as for missing rows: the evaluation itself will tell
        return
    for benchmark in asked:
        (entry,) = told([benchmark])
        if not benchmark.items or entry["digest"] in digests:
            continue
        found, summary = _search(run, name, searching, [benchmark])
        (entry,) = found_in([benchmark], [summary])
        known = [*known, {**entry, "added": True, "documents": found}]
        run.folder.record(
            name, replace(standing, summary={**standing.summary, "benchmarks": known})
        )
        if found:
            run.log.warn(
                f"'{name}' was prepared before the spec named {benchmark.name}, whose items {found:,} "
                f"of its documents have; prepare it again with --rerun {name} to leave them out",
                stage=name,
            )


def _search(
    run: RunContext, name: str, config: Config, asked: Sequence[BenchmarkTexts]
) -> tuple[int, Mapping[str, Any]]:
    """In how many documents that training gets a processor finds items of benchmarks, and its summary
    of what it finds."""
    processor = run.build("processor", config, replace(run.context(name), benchmarks=asked))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        parts = []
        for number, texts in enumerate(_portions(trained_texts(run.folder.path / name))):
            parts.append(Part(0, key_of("trained", number)))
            records = [Text(id=f"{number}/{n}", source=name, text=t) for n, t in enumerate(texts)]
            store.write(parts[-1].documents, table_of(records))
        named = NamedProcessor(config.__class__.__name__, "benchmarks", processor)
        made = carried_out(store, parts, named)
        count = sum(len(table) for table in found_by_last(store, made))
        return count, processor.summary(found_by_last(store, made))


def _portions(texts: Iterator[str]) -> Iterator[list[str]]:
    """Texts that fit in memory together."""
    portion: list[str] = []
    size = 0
    for text in texts:
        portion.append(text)
        size += len(text)
        if size >= _PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
