"""Sources through processors: what training gets, what is held out, and what each rule drops."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence, Set as AbstractSet
from pathlib import Path
from typing import Any

from engine.contracts.data import Processor
from engine.contracts.records import Record, Text
from engine.data.holdout import Answered, is_held_out
from engine.data.holdout_file import HELD_OUT, write_held_out
from engine.data.records import (
    NamedSource,
    Rows,
    blaming,
    unreadable,
)
from engine.errors import RunError

Progress = Callable[[str, float, float, str], None]
"""What is done, how much of how much, and a note."""


def read(
    sources: Sequence[NamedSource],
    processors: Sequence[Processor],
    folder: Path,
    *,
    holdout: float,
    seed: int,
    progress: Progress,
    answered: Answered,
) -> tuple[list[Path], list[dict[str, Any]]]:
    """Writes ``holdout.jsonl`` and, for each source, a file of the texts that training gets, each
    a line of JSON; gives these files and the sources' cards. Texts that have an ``answered`` prompt,
    held out elsewhere, are dropped.

    Raises RunError, also for a source that leaves nothing to train on.
    """
    drafts = [folder / f"draft-{index}.jsonl" for index in range(len(sources))]
    cards = []
    held: set[bytes] = set()
    with (folder / HELD_OUT).open("w", encoding="utf-8") as aside:
        for index, (named, draft) in enumerate(zip(sources, drafts, strict=True)):
            dropped: Counter[str] = Counter()
            set_aside = 0
            rows = Rows(named)
            with draft.open("w", encoding="utf-8") as out:
                for record in rows:
                    if rows.read % 64 == 0:
                        note = f"{named.name}: {rows.read:,} records"
                        progress("read", index, len(sources), note)
                    result = _process(record, processors)
                    if isinstance(result, str):
                        dropped[result] += 1
                    elif is_held_out(result, holdout, seed):
                        write_held_out(result, aside)
                        held.add(_digest(result.text))
                        set_aside += 1
                    else:
                        out.write(json.dumps([result.text, result.license]) + "\n")
            cards.append(
                {
                    "source": named.name,
                    "read": rows.read,
                    "dropped": rows.bad + dropped,
                    "bad_rows": rows.places(),
                    "held_out": set_aside,
                }
            )
    progress("read", len(sources), len(sources), "")
    spools = [
        _without(held, answered, draft, card) for draft, card in zip(drafts, cards, strict=True)
    ]
    return spools, cards


def _without(
    held: AbstractSet[bytes], answered: Answered, draft: Path, card: dict[str, Any]
) -> Path:
    """The texts of a draft but for copies of held-out ones, and those that have a prompt which another
    stage holds out, and its answer; completes the card.

    A text that is held out with its group may have a copy in another group, read before it: hence
    this second pass.
    """
    spool = draft.with_name(draft.name.replace("draft", "spool"))
    dropped = card["dropped"]
    licenses: Counter[str] = Counter()
    n_bytes = 0
    with draft.open(encoding="utf-8") as lines, spool.open("w", encoding="utf-8") as out:
        for text, license_ in map(json.loads, lines):
            if _digest(text) in held:
                dropped["held-out-elsewhere"] += 1
                continue
            if answered.in_text(text):
                dropped["answers-what-is-held-out"] += 1
                continue
            out.write(json.dumps(text) + "\n")
            licenses[license_ or "unknown"] += 1
            n_bytes += len(text.encode())
    draft.unlink()
    if not licenses:
        raise RunError(
            f"source '{card['source']}' gave no document to train on: {card['read']} read, "
            f"{dropped.total()} dropped {dict(dropped)}, {card['held_out']} held out",
            hint="check its paths, the processors and `holdout`",
        )
    counts = {"documents": licenses.total(), "bytes": n_bytes, "licenses": dict(licenses)}
    card.update(counts, dropped=dict(dropped))
    return spool


def _process(record: Record, processors: Sequence[Processor]) -> Text | str:
    """The document to keep, or the name of the rule by which it is dropped."""
    for processor in processors:
        name = f"{type(processor).__module__}.{type(processor).__qualname__}"
        with blaming(f"processor {name}, at record '{record.id}' of '{record.source}',"):
            result = processor.process(record)
            if not isinstance(result, Record | str):
                raise TypeError(f"it gave {result!r}, neither a record nor the name of a rule")
        if isinstance(result, str):
            return result
        record = result
    if not isinstance(record, Text):
        raise RunError(
            f"record '{record.id}' of '{record.source}' is {record.schema}, but prepare takes text",
            hint="give such records to a train stage as its `data`, or say `records: text`",
        )
    if not record.text.strip():
        return "empty"
    bad = unreadable(record)  # as a processor may have made it
    return record if bad is None else bad.reason


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
