"""Prompts of records, as examples to answer and as readable text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine import (
    Example,
    Record,
    RewardConfig,
    Said,
)
from engine.modeling import prompt_tokens
from engine_rlhf.rewards.scoring import Prompted, reward_prompt, row_of


def prompt_example(
    record: Record, tokenizer: Any, room: int, rewards: Sequence[RewardConfig] = ()
) -> Iterator[Example | str]:
    """The example of a record's prompt, of at most ``room`` tokens, with the record's row.

    Raises RunError where the record lacks what one of ``rewards`` needs, see :func:`row_of`.
    """
    assert isinstance(record, Prompted)
    row = row_of(record, rewards)
    tokens = prompt_tokens(tokenizer, record.prompt, record.tools)
    if len(tokens) > room:
        yield "prompts leave no room for an answer"
        return
    prompt = reward_prompt(record.prompt)
    yield Example(len(tokens), {"input_ids": np.array(tokens), "prompt": prompt, "row": row})


def as_text(prompt: Said) -> str:
    """A prompt as readable text, one message a line."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{one.get('role')}: {one.get('content')}" for one in prompt)
