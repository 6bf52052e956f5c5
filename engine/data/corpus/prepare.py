"""Sources through processors into shards, a tokenizer and held-out documents.

A prepared folder:

    card.json        what is in it: documents, bytes, tokens, licences, and what each rule dropped
    tokenizer/       a Hugging Face fast tokenizer
    shards/0 …       one folder of shards for each source, in the spec's order, with documents.parquet:
                     its documents in order, with their sources, licences, tokens and annotations;
                     the order is a shuffle by the spec's seed
    holdout.jsonl    documents that training never sees, as records
    provenance.json  which tables hold what each step found

It is built under another name and renamed when it is whole. Documents in parts, and what each step
found of them, are in ``.work/STAGE`` beside it, in files named by what made them: a preparation that
was broken off, or that is made again with other settings, goes on from there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engine.contracts.data import TokenizerTrainer
from engine.contracts.records import Record
from engine.data.corpus.documents import Documents
from engine.data.corpus.executors import Means
from engine.data.corpus.provenance import work_folder, write_provenance
from engine.data.corpus.sharding import SavedTokenizer, write_shards
from engine.data.corpus.steps import NamedProcessor, Progress
from engine.data.corpus.store import Store, refused
from engine.data.holdout import Answered
from engine.data.holdout_file import HELD_OUT, held_out_card, write_held_out
from engine.data.records import NamedSource, blaming
from engine.data.shards import Shards
from engine.errors import RunError
from engine.storage import manifest


def judged(
    store: Store,
    *,
    sources: Sequence[NamedSource],
    processors: Sequence[NamedProcessor],
    holdout: float,
    seed: int,
    progress: Progress = lambda what, done, total, note: None,
    elsewhere: Mapping[str, Iterable[Record]] = MappingProxyType({}),
    means: Means | None = None,
) -> Documents:
    """The documents of sources after all processors and with what is held out; see :func:`prepare`."""
    store.clear()
    documents = Documents(store, sources, progress, means or Means())
    for processor in processors:
        documents.carry_out(processor)
    answered = Answered(chain.from_iterable(elsewhere.values()))
    documents.hold_out(holdout, seed, answered, list(elsewhere))
    return documents


def prepare(
    folder: Path,
    *,
    sources: Sequence[NamedSource],
    processors: Sequence[NamedProcessor],
    trainer: TokenizerTrainer,
    holdout: float,
    seed: int,
    progress: Progress = lambda what, done, total, note: None,
    elsewhere: Mapping[str, Iterable[Record]] = MappingProxyType({}),
    means: Means | None = None,
    more: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]] = lambda sources: {},
) -> dict[str, Any]:
    """Prepares ``folder`` and gives its card.

    ``elsewhere``: records that later stages hold out, by a name of each hold-out, which the card
    keeps: texts that have the prompt of one of them and its answer are dropped. ``means``: executor
    and seconds that a document may take; without them all is done in this process. ``more``: what else
    the card says, made of its ``sources``.

    Raises RunError for an empty corpus, a full disk, and what goes wrong in a component, by name.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        documents = judged(
            Store(work_folder(folder)),
            sources=sources,
            processors=processors,
            holdout=holdout,
            seed=seed,
            progress=progress,
            elsewhere=elsewhere,
            means=means,
        )
        with (partial / HELD_OUT).open("w", encoding="utf-8") as aside:
            for document in chain.from_iterable(documents.held()):
                write_held_out(document, aside)
        cards = [_filled(documents.card(source)) for source in range(len(sources))]
        with blaming("the tokenizer"):
            tokenizer = trainer(_Texts(documents, cards, progress))
            _check_tokenizer(tokenizer)
            saved = SavedTokenizer.save(tokenizer, partial / "tokenizer")
        for source, card in enumerate(cards):
            shards = partial / "shards" / str(source)
            name = card["source"]
            card["tokens"] = write_shards(documents, source, name, saved, seed, shards, progress)
        card = {
            "sources": cards,
            "vocabulary": len(tokenizer),
            "holdout": held_out_card(partial),
            "heeds": list(elsewhere),
            **more(cards),
            **documents.told(),
        }
        (partial / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
        write_provenance(partial, documents.steps, documents.parts)
        manifest.complete(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise refused(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def trained_texts(folder: Path) -> Iterator[str]:
    """The texts that training gets of a prepared folder, as its tokenizer gives them back.

    Raises RunError where they are damaged.
    """
    from transformers import AutoTokenizer

    manifest.verify(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", trust_remote_code=False)
    for part in sorted((folder / "shards").iterdir()):
        shards = Shards.open(part)
        starts = [*shards.document_starts(0, shards.n_tokens).tolist(), shards.n_tokens]
        for start, end in pairwise(starts):
            yield str(tokenizer.decode(shards.tokens(start, end), skip_special_tokens=True))


def _filled(card: dict[str, Any]) -> dict[str, Any]:
    """The card of a source. Raises RunError if training gets no document of it."""
    if not card["documents"]:
        dropped = card["dropped"]
        raise RunError(
            f"source '{card['source']}' gave no document to train on: {card['read']} read, "
            f"{sum(dropped.values())} dropped {dropped}, {card['held_out']} held out",
            hint="check its paths, the processors and `holdout`",
        )
    return card


class _Texts:
    """The documents' texts, iterable as often as a tokenizer's trainer likes."""

    def __init__(
        self, documents: Documents, cards: Sequence[Mapping[str, Any]], progress: Progress
    ) -> None:
        self._documents = documents
        self._sizes = [card["bytes"] for card in cards]
        self._progress = progress
        self._times = 0

    def __iter__(self) -> Iterator[str]:
        self._times += 1
        what = f"read for tokens, {self._times}"
        total, done = sum(self._sizes), 0
        try:
            for source in range(len(self._sizes)):
                for part in self._documents.trained(source):
                    for text in part.column("text").to_pylist():
                        self._progress(what, min(done, total - 1), total, "")
                        done += len(text)
                        yield text
        finally:  # whoever reads may have enough before the end
            self._progress(what, total, total, "")


def _check_tokenizer(tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise RunError(
            "the tokenizer has no end-of-sequence token, so documents could not be told apart",
            hint="set its eos_token",
        )
