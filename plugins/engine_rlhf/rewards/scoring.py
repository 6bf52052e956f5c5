"""The prompts and rows that rewards see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from engine import (
    Completion,
    Preference,
    Prompt,
    Record,
    RewardConfig,
    RunError,
    Said,
)
from engine_rlhf.config.rewards import reward_name

Prompted = Prompt | Completion | Preference
"""Records with a prompt that a model can answer."""

Row = Mapping[str, Any]
"""The columns of a record other than its prompt, by name."""
_NO_COLUMNS = {"prompt", "meta", *(f.name for f in fields(Record))}


def reward_prompt(prompt: Said) -> Said:
    """A prompt as rewards see it: a single user message becomes its text."""
    if isinstance(prompt, str) or len(prompt) != 1:
        return prompt
    (message,) = prompt
    content = message.get("content")
    return content if message.get("role") == "user" and isinstance(content, str) else prompt


def row_of(record: Prompted, rewards: Sequence[RewardConfig] = ()) -> Row:
    """The row that rewards see: all columns of a record but its prompt, including a given answer.

    Raises RunError, naming the record, where the row lacks something that one of ``rewards`` needs.
    """
    own = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _NO_COLUMNS}
    row = {**record.meta, **{name: value for name, value in own.items() if value is not None}}
    for reward in rewards:
        if wrong := reward.check_row(row):
            raise RunError(
                f"{record.id}: reward '{reward_name(reward)}' cannot score an answer: {wrong}",
                hint="mend the row, or leave it out",
            )
    return row
