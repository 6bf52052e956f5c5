"""Sources through processors into shards, a tokenizer and held-out documents.

A prepared folder:

    card.json        what is in it: documents, bytes, tokens, licences, and what each rule dropped
    tokenizer/       a Hugging Face fast tokenizer
    shards/0 …       one folder of shards for each source, in the spec's order
    holdout.jsonl    documents that training never sees, as records

It is built under another name and renamed when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from engine.contracts.data import Processor, TokenizerTrainer
from engine.contracts.records import Record
from engine.data.documents import Progress, read
from engine.data.holdout import Answered
from engine.data.holdout_file import held_out_card
from engine.data.records import NamedSource, blaming
from engine.data.shards import Shards, ShardWriter
from engine.errors import RunError
from engine.modeling.encoding import boundary, encoder
from engine.storage import manifest

_ENCODE_BATCH = 256
"""Documents tokenized at once: enough to keep every core busy."""


def prepare(
    folder: Path,
    *,
    sources: Sequence[NamedSource],
    processors: Sequence[Processor],
    trainer: TokenizerTrainer,
    holdout: float,
    seed: int,
    progress: Progress = lambda what, done, total, note: None,
    elsewhere: Mapping[str, Iterable[Record]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Prepares ``folder`` and gives its card.

    ``elsewhere``: records that later stages hold out, by a name of each hold-out, which the card
    keeps: texts that have the prompt of one of them and its answer are dropped.

    Raises RunError for an empty corpus, a full disk, and what goes wrong in a component, by name.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        spools, cards = read(
            sources,
            processors,
            partial,
            holdout=holdout,
            seed=seed,
            progress=progress,
            answered=Answered(chain.from_iterable(elsewhere.values())),
        )
        with blaming("the tokenizer"):
            tokenizer = trainer(_Texts(spools, progress))
            _check_tokenizer(tokenizer)
            tokenizer.save_pretrained(partial / "tokenizer")
        for index, (spool, card) in enumerate(zip(spools, cards, strict=True)):
            _write_shards(spool, partial / "shards" / str(index), tokenizer, card, progress)
            spool.unlink()
        card = {
            "sources": cards,
            "vocabulary": len(tokenizer),
            "holdout": held_out_card(partial),
            "heeds": list(elsewhere),
        }
        (partial / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
        manifest.complete(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise RunError(
            f"{folder}: {error.strerror or error}",
            hint="free some space or mend the folder's rights",
        ) from error
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


class _Texts:
    """The documents' texts, iterable as often as a tokenizer's trainer likes."""

    def __init__(self, spools: Sequence[Path], progress: Progress) -> None:
        self._spools = spools
        self._progress = progress
        self._times = 0

    def __iter__(self) -> Iterator[str]:
        self._times += 1
        what = f"read for tokens, {self._times}"
        total, done = sum(spool.stat().st_size for spool in self._spools), 0
        try:
            for spool in self._spools:
                with spool.open(encoding="utf-8") as file:
                    for line in file:
                        self._progress(what, min(done, total - 1), total, "")
                        done += len(line)
                        yield json.loads(line)
        finally:  # whoever reads may have enough before the end
            self._progress(what, total, total, "")


def _check_tokenizer(tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise RunError(
            "the tokenizer has no end-of-sequence token, so documents could not be told apart",
            hint="set its eos_token",
        )


def _write_shards(
    spool: Path, folder: Path, tokenizer: Any, card: dict[str, Any], progress: Progress
) -> None:
    bos, eos = boundary(tokenizer), tokenizer.eos_token_id
    writer = ShardWriter(folder, vocab_size=len(tokenizer), eos_id=eos, boundary_target=bos == eos)
    total = spool.stat().st_size
    what = f"tokenize {card['source']}"
    with spool.open(encoding="utf-8") as file:
        done = 0
        while lines := [line for _, line in zip(range(_ENCODE_BATCH), file, strict=False)]:
            texts = [json.loads(line) for line in lines]
            # A document that spells out a special token must not end itself with it.
            with blaming("the tokenizer"):
                encoded = encoder(tokenizer).texts(texts)
            for text, ids in zip(texts, encoded, strict=True):
                writer.add([bos, *ids] if bos == eos else [bos, *ids, eos], len(text.encode()))
            done += sum(map(len, lines))
            progress(what, min(done, total - 1), total, "")
    progress(what, total, total, "")
    card["tokens"] = writer.close().tokens
