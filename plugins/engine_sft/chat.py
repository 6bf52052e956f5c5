"""Splits records into the token sequences of training, and marks the answers to learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from engine import Chat, Completion, Messages
from engine.modeling import Piece, conversation_pieces, example_tokens


def sequences(
    record: Chat | Completion, tokenizer: Any, turns: Literal["all", "last"] = "all"
) -> Iterator[list[Piece]]:
    """The sequences of a record, in pieces: those with a ``turn`` are learnt, and the last is one.

    A conversation gives several sequences if the chat template changes earlier answers when more turns
    follow. Raises RecordError, and SpecError for a conversation without a template.
    """
    if isinstance(record, Completion) and not _is_talk(record.completion):
        read, written = example_tokens(tokenizer, record.prompt, record.completion, record.tools)
        yield [Piece(read), Piece(written, 1)]
        return
    messages, first = _messages(record)
    answers = [i for i in range(first, len(messages)) if messages[i].get("role") == "assistant"]
    learnt = {i for i in (answers[-1:] if turns == "last" else answers) if counts(messages[i])}
    if not learnt:
        return
    whole, *others = conversation_pieces(tokenizer, messages, record.tools)
    for pieces in (whole, *([*map(_read, parts[:-1]), parts[-1]] for parts in others)):
        kept = [piece if piece.turn in learnt else _read(piece) for piece in pieces]
        while kept and kept[-1].turn is None:
            kept.pop()
        if kept:
            yield kept


def counts(message: Mapping[str, Any]) -> bool:
    """Whether an answer is learnt: not with ``train: false``, or ``weight: 0`` of other formats."""
    train, weight = message.get("train"), message.get("weight")
    return train is not False and (weight is None or weight != 0)


def _messages(record: Chat | Completion) -> tuple[Messages, int]:
    """All turns, and the index of the first that may be learnt."""
    if isinstance(record, Chat):
        return record.messages, 0
    prompt, completion = record.prompt, record.completion
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    assert not isinstance(completion, str)
    return [*before, *completion], len(before)


def _is_talk(completion: str | Sequence[Any]) -> bool:
    return not isinstance(completion, str) and len(completion) > 1


def _read(piece: Piece) -> Piece:
    return replace(piece, turn=None)
