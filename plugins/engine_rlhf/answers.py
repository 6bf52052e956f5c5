"""What rollouts and evaluation do alike with prompts and answers: fit, seed, score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from engine import Example, Record, RunError, prompt_tokens
from engine_rlhf.config import reward_name

Row = Mapping[str, Any]
"""The further columns of a prompt's record, by name."""
_NO_COLUMNS = {"prompt", "meta", *(f.name for f in fields(Record))}


def prompt_example(
    record: Any, tokenizer: Any, room: int, rewards: Sequence[Any] = ()
) -> Iterator[Example | str]:
    """A record's prompt in at most ``room`` tokens, with its row.

    ``rewards`` are the configurations of those that will be asked. Raises RunError as :func:`row_of`.
    """
    row = row_of(record, rewards)
    tokens = prompt_tokens(tokenizer, record.prompt, record.tools)
    if len(tokens) > room:
        yield "prompts leave no room for an answer"
        return
    prompt = plain(record.prompt)
    yield Example(len(tokens), {"input_ids": np.array(tokens), "prompt": prompt, "row": row})


def plain(prompt: Any) -> Any:
    """A prompt as rewards get it: a text also where it is a user's only message."""
    if isinstance(prompt, str) or len(prompt) != 1:
        return prompt
    (message,) = prompt
    content = message.get("content")
    only = message.get("role") == "user" and isinstance(content, str)
    return content if only else prompt


def as_text(prompt: Any) -> str:
    """A prompt for a person to read: messages one below the other."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{one.get('role')}: {one.get('content')}" for one in prompt)


def row_of(record: Any, rewards: Sequence[Any] = ()) -> Row:
    """All columns of a record but its prompt; an answer that it comes with is one of them.

    Raises RunError, naming the record, where a reward misses something in it.
    """
    own = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _NO_COLUMNS}
    row = {**record.meta, **{name: value for name, value in own.items() if value is not None}}
    for reward in rewards:
        if wrong := reward.check_row(row):
            raise RunError(
                f"{record.id}: reward '{reward_name(reward)}' cannot score an answer: {wrong}",
                mend="mend the row, or leave it out",
            )
    return row


def scored(
    rewards: Sequence[tuple[str, Any]],
    prompts: Sequence[Any],
    answers: Sequence[str],
    rows: Sequence[Row],
) -> dict[str, list[float]]:
    """Each reward by its name. Raises RunError for what is no finite number."""
    found: dict[str, list[float]] = {}
    for label, reward in rewards:
        values = reward.score(prompts, answers, rows)
        total = sum(tensor.double() for tensor in values.values())
        if not values or total.shape != (len(answers),) or not total.isfinite().all():
            raise RunError(
                f"reward '{label}' gave no {len(answers)} finite numbers for as many answers",
                mend="see to the reward and run again: what is done is kept",
            )
        unique = label if label not in found else f"{label}-{len(found)}"
        found[unique] = total.tolist()
    return found
