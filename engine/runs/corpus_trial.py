"""Prepares a sample of a prepare stage's documents, to see what its steps would do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from engine.contracts.data import DataSource
from engine.contracts.records import Bad, Record
from engine.data.corpus.executors import Means
from engine.data.corpus.prepare import judged
from engine.data.corpus.store import Store
from engine.errors import SpecError
from engine.event_log import Display, EventLog, RichDisplay, SilentDisplay
from engine.processes.process import Process
from engine.runs.context import RunContext
from engine.runs.prepare_stage import stage_steps
from engine.spec.loading import Loaded
from engine.storage.run_folder import RunFolder


class _Sample(DataSource):
    """At most so many documents, of parts that are spread over a source: the first of each."""

    def __init__(self, source: DataSource, documents: int) -> None:
        self._source, self._documents = source, documents

    def parts(self) -> Sequence[str]:
        """See :class:`engine.DataSource`."""
        return self._parts

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`."""
        return islice(self._source.records(part), ceil(self._documents / len(self._parts)))

    @cached_property
    def _parts(self) -> Sequence[str]:
        parts = self._source.parts()
        return parts[:: ceil(len(parts) / self._documents)] if parts else parts


def try_corpus(
    loaded: Loaded, stage: str | None, documents: int, *, silent: bool = False
) -> dict[str, Any]:
    """The card of a prepare stage, by default the only one, for a sample: of each source about so many
    documents. Nothing is kept, no tokenizer is trained, and what other stages hold out is not searched
    for. Progress is shown unless ``silent``.

    Raises SpecError for a stage that does not prepare, and RunError as the stage itself does.
    """
    there = {name: one.prepare for name, one in loaded.spec.stages.items() if one.prepare}
    if stage is None and len(there) == 1:
        (stage,) = there
    if stage is None or stage not in there:
        wrong = f"{stage}: not a prepare stage; " if stage else ""
        raise SpecError(
            f"{wrong}prepare stages of the spec: {', '.join(there) or 'none'}",
            hint="name one with --stage",
        )
    config = there[stage]
    display: Display = SilentDisplay() if silent else RichDisplay()
    with closing(display), tempfile.TemporaryDirectory() as folder:
        log = EventLog(None, display)
        run = RunContext(loaded, RunFolder(Path(folder)), Process(), log)
        sources, processors, _ = stage_steps(run, stage, config)
        sampled = [replace(s, source=_Sample(s.source, documents), make=None) for s in sources]
        result = judged(
            Store(Path(folder) / "sample"),
            sources=sampled,
            processors=[replace(one, make=None) for one in processors],
            holdout=config.holdout,
            seed=loaded.spec.seed,
            progress=display.progress,
            means=Means(seconds=config.seconds_per_document),
        )
        cards = [result.card(number) for number in range(len(sources))]
        return {"sources": cards, **result.told()}
