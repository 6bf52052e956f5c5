"""Sources through processors into shards, a tokenizer and held-out documents.

A prepared folder:

    card.json        what is in it: documents, bytes, tokens, licences, and what each rule dropped
    tokenizer/       a Hugging Face fast tokenizer
    shards/0 …       one folder of shards for each source, in the spec's order
    holdout.jsonl    documents that training never sees, as records

It is built under another name and renamed when it is whole.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import manifest
from engine.component import DataSource, Processor, TokenizerTrainer
from engine.data.records import Record, Text, record_to_row, row_to_record
from engine.data.shards import ShardWriter
from engine.errors import EngineError, RunError

_ENCODE_BATCH = 256
"""Documents tokenized at once: enough to keep every core busy."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A source with the name that the card and the records carry."""

    name: str
    source: DataSource


Progress = Callable[[str, float, float], None]


def prepare(
    folder: Path,
    *,
    sources: Sequence[NamedSource],
    processors: Sequence[Processor],
    trainer: TokenizerTrainer,
    holdout: float,
    seed: int,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Prepares ``folder`` and gives its card.

    Raises RunError for an empty corpus, a full disk, and what goes wrong in a component, by name.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        spools = [partial / f"spool-{i}.jsonl" for i in range(len(sources))]
        cards = _read(sources, processors, spools, partial, holdout, seed, progress)
        with _blaming("the tokenizer"):
            tokenizer = trainer(_Texts(spools))
            _check_tokenizer(tokenizer)
            tokenizer.save_pretrained(partial / "tokenizer")
        for index, (spool, card) in enumerate(zip(spools, cards, strict=True)):
            _write_shards(spool, partial / "shards" / str(index), tokenizer, card, progress)
            spool.unlink()
        card = {"sources": cards, "vocabulary": len(tokenizer), "holdout": _held_out_card(partial)}
        (partial / "card.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
        manifest.complete(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise RunError(
            f"{folder}: {error.strerror or error}",
            mend="free some space or mend the folder's rights",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return card


def held_out(folder: Path) -> Iterator[Record]:
    """The held-out documents of a prepared folder."""
    with (folder / "holdout.jsonl").open(encoding="utf-8") as file:
        yield from (row_to_record(json.loads(line)) for line in file)


class _Texts:
    """The documents' texts, iterable as often as a tokenizer's trainer likes."""

    def __init__(self, spools: Sequence[Path]) -> None:
        self._spools = spools

    def __iter__(self) -> Iterator[str]:
        for spool in self._spools:
            with spool.open(encoding="utf-8") as file:
                yield from map(json.loads, file)


def _read(
    sources: Sequence[NamedSource],
    processors: Sequence[Processor],
    spools: Sequence[Path],
    partial: Path,
    holdout: float,
    seed: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Spools the texts that are kept, sets documents aside, and counts."""
    cards = []
    with (partial / "holdout.jsonl").open("w", encoding="utf-8") as aside:
        for index, (named, spool) in enumerate(zip(sources, spools, strict=True)):
            dropped: Counter[str] = Counter()
            licenses: Counter[str] = Counter()
            kept = n_bytes = set_aside = read = 0
            with spool.open("w", encoding="utf-8") as out:
                for record in _records(named):
                    read += 1
                    if read % 64 == 0:
                        progress(f"read {named.name}", index, len(sources))
                    result = _process(record, processors)
                    if isinstance(result, str):
                        dropped[result] += 1
                    elif _is_held_out(result, holdout, seed):
                        aside.write(json.dumps(record_to_row(result), default=str) + "\n")
                        set_aside += 1
                    else:
                        out.write(json.dumps(result.text) + "\n")
                        licenses[result.license or "unknown"] += 1
                        kept += 1
                        n_bytes += len(result.text.encode())
            if not kept:
                raise RunError(
                    f"source '{named.name}' gave no document to train on: {read} read, "
                    f"{sum(dropped.values())} dropped {dict(dropped)}, {set_aside} held out",
                    mend="check its paths, the processors and `holdout`",
                )
            cards.append(
                {
                    "source": named.name,
                    "read": read,
                    "dropped": dict(dropped),
                    "held_out": set_aside,
                    "documents": kept,
                    "bytes": n_bytes,
                    "licenses": dict(licenses),
                }
            )
    progress("read", len(sources), len(sources))
    return cards


def _records(named: NamedSource) -> Iterator[Record]:
    with _blaming(f"source '{named.name}'"):
        for record in named.source.records(0, 1):
            if not isinstance(record, Record):
                raise TypeError(f"it gave {record!r}, which is no record")
            yield record


def _process(record: Record, processors: Sequence[Processor]) -> Text | str:
    """The document to keep, or the name of the rule by which it is dropped."""
    for processor in processors:
        name = f"{type(processor).__module__}.{type(processor).__qualname__}"
        with _blaming(f"processor {name}, at record '{record.id}' of '{record.source}',"):
            result = processor.process(record)
            if not isinstance(result, Record | str):
                raise TypeError(f"it gave {result!r}, neither a record nor the name of a rule")
        if isinstance(result, str):
            return result
        record = result
    if not isinstance(record, Text):
        raise RunError(
            f"record '{record.id}' of '{record.source}' is {record.schema}, but prepare takes text",
            mend="give such records to a train stage as its `data`",
        )
    if not record.text.strip():
        return "empty"
    # Half of a surrogate pair, as JSON may hold it, is no character: no tokenizer takes it.
    return "lone-surrogate" if _SURROGATE.search(record.text) else record


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Names the component in which an error is; it may be anybody's, and raise anything."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise RunError(f"{what} failed: {type(error).__name__}: {error}") from error


def _is_held_out(record: Text, share: float, seed: int) -> bool:
    """By a hash, so a document is always on the same side, and with it all of its ``meta.group``:
    texts that tell of each other (a module and its docstrings) must not be parted."""
    group = record.meta.get("group")
    name = str(record.text if group is None else group).encode(errors="surrogatepass")
    digest = hashlib.blake2b(name, digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") < share * 2**64


def _check_tokenizer(tokenizer: Any) -> None:
    if tokenizer.eos_token_id is None:
        raise RunError(
            "the tokenizer has no end-of-sequence token, so documents could not be told apart",
            mend="set its eos_token",
        )


def _write_shards(
    spool: Path, folder: Path, tokenizer: Any, card: dict[str, Any], progress: Progress
) -> None:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    bos = eos if bos is None else bos
    writer = ShardWriter(folder, vocab_size=len(tokenizer), eos_id=eos, boundary_target=bos == eos)
    total = spool.stat().st_size
    what = f"tokenize {card['source']}"
    with spool.open(encoding="utf-8") as file:
        read = 0
        while lines := [line for _, line in zip(range(_ENCODE_BATCH), file, strict=False)]:
            texts = [json.loads(line) for line in lines]
            # A document that spells out a special token must not end itself with it.
            with _blaming("the tokenizer"):
                encoded = tokenizer(
                    texts,
                    add_special_tokens=False,
                    split_special_tokens=True,
                    return_attention_mask=False,
                )
            for text, ids in zip(texts, encoded["input_ids"], strict=True):
                writer.add([bos, *ids] if bos == eos else [bos, *ids, eos], len(text.encode()))
            read += sum(map(len, lines))
            progress(what, min(read, total - 1), total)
    progress(what, total, total)
    card["tokens"] = writer.close().tokens


def _held_out_card(folder: Path) -> dict[str, Any]:
    """What general-purpose compressors make of the held-out text, in bits per byte."""
    texts = [record.text.encode() for record in held_out(folder) if isinstance(record, Text)]
    whole = b"".join(texts)
    card: dict[str, Any] = {"documents": len(texts), "bytes": len(whole)}
    if whole:
        card["gzip_bits_per_byte"] = round(8 * len(gzip.compress(whole, 9)) / len(whole), 4)
        card["xz_bits_per_byte"] = round(8 * len(lzma.compress(whole, preset=9)) / len(whole), 4)
    return card
