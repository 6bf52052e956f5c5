"""What training never sees: by what a record asks, so that every stage has it on the same side."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from engine.data.records import Chat, Messages, Record, Stepwise, Text

_ALONE = r"\u0e00-\u0fff\u2e80-\u9fff\uf900-\ufaff"
"""Letters of scripts that put no space between words: each counts as one."""
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")


def is_held_out(record: Record, share: float, seed: int) -> bool:
    """By a hash of what :func:`asked` gives, whatever the record's schema, file and place; a record
    with a ``meta.group`` goes by it: texts that tell of each other (a module and its docstrings) must
    not be parted."""
    group = record.meta.get("group")
    name = (asked(record) if group is None else str(group)).encode(errors="surrogatepass")
    digest = hashlib.blake2b(name, digest_size=8, key=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big") < share * 2**64


def asked(record: Record) -> str:
    """A text, or what the first user turn of a prompt says, spaces apart; what no user says goes by all
    that is said before the answer, and what has no words by its ``id``."""
    if isinstance(record, Text):
        return record.text
    turns = [turn for name in ("messages", "prompt") for turn in _turns(record, name)]
    answers = [turn for name in ("chosen", "completion") for turn in _turns(record, name)]
    users = (_said(turn) for turn in (*turns, *answers) if turn.get("role") == "user")
    found = next(users, "") or " ".join(map(_said, turns))
    return " ".join(found.split()) or record.id


def digest_of(record: Record) -> bytes:
    """The same for all copies of a record, wherever they stand."""
    text = asked(record).encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()


class Answered:
    """Prompts with their answers, to be found in texts: the prompt's words and later the answer's, each
    in their order and without others between them, whatever the case, spaces and punctuation.

    Pairs of which one side has no word are left out.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        pairs = {
            (prompt, answer)
            for record in records
            for given in _answers(record)
            if (prompt := _words(asked(record))).strip() and (answer := _words(given)).strip()
        }
        # A text is searched for the prompts whose rarest word it has.
        known = Counter(word for prompt, _ in pairs for word in set(prompt.split()))
        self._pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for prompt, answer in sorted(pairs):
            self._pairs[min(prompt.split(), key=lambda w: known[w])].append((prompt, answer))

    def __len__(self) -> int:
        return sum(map(len, self._pairs.values()))

    def in_text(self, text: str) -> bool:
        """Whether a text has one of the prompts, and after it an answer to it."""
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
    """What a record gives as answers to its prompt; of a conversation, the first turn after it."""
    if isinstance(record, Chat):
        roles = [turn.get("role") for turn in record.messages]
        first = roles.index("user") if "user" in roles else 0
        replies = (t for t in record.messages[first:] if t.get("role") == "assistant")
        yield from (_said(turn) for _, turn in zip(range(1), replies, strict=False))
    elif isinstance(record, Stepwise):
        yield " ".join(record.completions)
    for name in ("completion", "chosen", "rejected"):
        spoken = [_said(t) for t in _turns(record, name) if t.get("role") in (None, "assistant")]
        if spoken:
            yield spoken[-1]
    if record.schema == "prompt" and isinstance(record.meta.get("answer"), str | int | float):
        yield str(record.meta["answer"])


def _turns(record: Record, name: str) -> Messages:
    """A field's turns; a text is one, of the user where it is the prompt."""
    said: Any = getattr(record, name, None) or []
    if isinstance(said, str):
        return [{"role": "user" if name == "prompt" else None, "content": said}]
    return [turn for turn in said if isinstance(turn, Mapping)]


def _said(turn: Mapping[str, Any]) -> str:
    """A turn's text, its parts one after another."""
    content = turn.get("content")
    if isinstance(content, list | tuple):
        parts = (p.get("text") if isinstance(p, Mapping) else p for p in content)
        return " ".join(str(part) for part in parts if part)
    return "" if content is None else str(content)


def _words(text: str) -> str:
    """The words of a text with a space around each."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "
