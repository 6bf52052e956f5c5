"""Applies a stage's processors and steps to the parts of a corpus, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.contracts.data import CorpusStep, Processor
from engine.data.corpus.columns import mapped
from engine.data.corpus.executors import Means
from engine.data.corpus.parts import Part
from engine.data.corpus.store import Store, key_of
from engine.data.corpus.verbs import PartedCorpus
from engine.data.records import blaming

Progress = Callable[[str, float, float, str], None]
"""What is done, how much of how much, and a note."""


@dataclass(frozen=True, slots=True)
class NamedProcessor:
    """A processor or step, its name in messages, and a key of what it is: type, settings, version.

    ``make`` makes it in another process; without it the work is done in this one.
    """

    name: str
    key: str
    processor: Processor | CorpusStep
    make: Callable[[], Processor] | None = None


def carried_out(
    store: Store,
    parts: Sequence[Part],
    named: NamedProcessor,
    progress: Progress = lambda *_: None,
    means: Means | None = None,
) -> list[Part]:
    """The parts with the step's columns, computed where they are missing. Raises RunError."""
    processor, means = named.processor, means or Means()
    if named.make is None:
        means = means.here()
    if isinstance(processor, CorpusStep):
        with blaming(f"processor '{named.name}'"):
            verbs = counted(named.name, progress)
            corpus = PartedCorpus(store, parts, named.key, verbs, means.executor)
            return corpus.with_columns(processor.run(corpus))
    made = [part.with_columns(key_of("columns", part.key, named.key)) for part in parts]

    def tell(done: int, total: int) -> None:
        progress(named.name, done, total + 1, "")

    keys = [part.columns[-1] for part in made]
    mapped(store, parts, keys, named.name, named.make or (lambda: processor), means, tell)
    progress(named.name, 1, 1, "")
    return made


def counted(name: str, progress: Progress) -> Callable[[int, int], None]:
    """Progress of verbs, each a bar of its own."""
    verbs = 0

    def tell(done: int, total: int) -> None:
        nonlocal verbs
        verbs += done == 1
        progress(f"{name}, {verbs}", done, total, "")

    return tell
