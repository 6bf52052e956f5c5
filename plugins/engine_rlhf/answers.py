"""What rollouts and evaluation do alike with prompts and answers: fit, seed, score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine import Example, RunError, prompt_tokens


def prompt_example(record: Any, tokenizer: Any, room: int) -> Iterator[Example | str]:
    """A record's prompt in at most ``room`` tokens."""
    tokens = prompt_tokens(tokenizer, record.prompt, record.tools)
    if len(tokens) > room:
        yield "prompts leave no room for an answer"
        return
    yield Example(len(tokens), {"input_ids": np.array(tokens), "prompt": record.prompt})


def scored(
    rewards: Sequence[tuple[str, Any]], prompts: Sequence[str], answers: Sequence[str]
) -> dict[str, list[float]]:
    """Each reward by its name. Raises RunError for what is no finite number."""
    found: dict[str, list[float]] = {}
    for label, reward in rewards:
        values = reward.score(prompts, answers)
        total = sum(tensor.double() for tensor in values.values())
        if not values or total.shape != (len(answers),) or not total.isfinite().all():
            raise RunError(
                f"reward '{label}' gave no {len(answers)} finite numbers for as many answers",
                mend="see to the reward and run again: what is done is kept",
            )
        unique = label if label not in found else f"{label}-{len(found)}"
        found[unique] = total.tolist()
    return found
