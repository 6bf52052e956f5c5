"""Held-out records, selected by their prompt, so that all stages hold out the same ones."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from engine.contracts.records import (
    Chat,
    Record,
    Stepwise,
    Text,
)
from engine.data.plain_text import text_of, turns_of

_UNSPACED = r"\u0e00-\u0fff\u2e80-\u9fff\uf900-\ufaff"
"""Letters of scripts without spaces between words: each counts as a word."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def is_held_out(record: Record, share: float, seed: int) -> bool:
    """Whether a record is in the share held out, decided by a hash of its prompt or text (see
    :func:`asked`), whatever its schema, file and position. A record with ``meta.group`` is decided by
    its group, which keeps related texts (a module and its docstrings) on the same side."""
    group = record.meta.get("group")
    name = (asked(record) if group is None else str(group)).encode(errors="surrogatepass")
    digest = hashlib.blake2b(name, digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") < share * 2**64


def asked(record: Record) -> str:
    """The text that identifies a record's prompt: a document's text, or the first user turn with
    normalised whitespace; without a user turn, all turns before the answer; without words, the ``id``.
    """
    if isinstance(record, Text):
        return record.text
    turns = [turn for name in ("messages", "prompt") for turn in turns_of(record, name)]
    answers = [turn for name in ("chosen", "completion") for turn in turns_of(record, name)]
    users = (text_of(turn) for turn in (*turns, *answers) if turn.get("role") == "user")
    found = next(users, "") or " ".join(map(text_of, turns))
    return " ".join(found.split()) or record.id


def digest_of(record: Record) -> bytes:
    """Hash of :func:`asked` (16 bytes), the same for all copies of a record."""
    text = asked(record).encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


class Answered:
    """Finds prompts followed by their answers in texts, ignoring case, whitespace and punctuation.

    The words of the prompt must be consecutive in the text, and so must those of the answer, which may
    come later. Pairs with an empty side are left out.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        pairs = {
            (prompt, answer)
            for record in records
            for given in _answers(record)
            if (prompt := _words(asked(record))).strip() and (answer := _words(given)).strip()
        }
        # Indexed by the prompt's rarest word: a text is searched only for prompts whose word it has.
        frequency = Counter(word for prompt, _ in pairs for word in set(prompt.split()))
        self._pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for prompt, answer in sorted(pairs):
            rarest = min(prompt.split(), key=frequency.__getitem__)
            self._pairs[rarest].append((prompt, answer))

    def __len__(self) -> int:
        return sum(map(len, self._pairs.values()))

    def in_text(self, text: str) -> bool:
        """Whether a text contains one of the prompts, followed by its answer."""
        if not self._pairs:
            return False
        words = _words(text)
        for word in self._pairs.keys() & set(words.split()):
            for prompt, answer in self._pairs[word]:
                at = words.find(prompt)
                if at >= 0 and words.find(answer, at + len(prompt) - 1) >= 0:
                    return True
        return False


def _answers(record: Record) -> Iterator[str]:
    """A record's answers to its prompt; of a conversation, the first reply to the first user turn."""
    if isinstance(record, Chat):
        roles = [turn.get("role") for turn in record.messages]
        first = roles.index("user") if "user" in roles else 0
        replies = (turn for turn in record.messages[first:] if turn.get("role") == "assistant")
        yield from map(text_of, islice(replies, 1))
    elif isinstance(record, Stepwise):
        yield " ".join(record.completions)
    for name in ("completion", "chosen", "rejected"):
        replies = (t for t in turns_of(record, name) if t.get("role") in (None, "assistant"))
        if texts := list(map(text_of, replies)):
            yield texts[-1]
    if record.schema == "prompt" and isinstance(record.meta.get("answer"), str | int | float):
        yield str(record.meta["answer"])


def _words(text: str) -> str:
    """The lower-case words of a text, with a space before and after each."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "
