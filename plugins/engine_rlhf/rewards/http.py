"""Reward ``http``: a web service that scores prompts with their answers."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engine import Context, RunError, Said
from engine_rlhf.config.rewards import Http, reward_name
from engine_rlhf.rewards.scoring import Row

_LARGEST = torch.finfo(torch.float32).max
_TOLD = 300
"""Characters of a service's reply that an error quotes at most."""


class HttpReward:
    """Posts ``{"prompts": […], "completions": […], "rows": [{…}, …]}`` to a service, which replies
    ``{"scores": […]}`` or ``{"scores": {NAME: […], …}}``."""

    def __init__(self, config: Http) -> None:
        self._config = config
        self._key = os.environ.get(config.key_env, "") if config.key_env else None
        # httpx refuses other characters in a header with an error that would reveal the key.
        if self._key is not None and not re.fullmatch("[!-~]+", self._key):
            raise RunError(
                f"reward '{config.url}': ${config.key_env} does not hold a token",
                hint="set it to the service's key, without spaces or line breaks",
            )

    def score(
        self, prompts: Sequence[Said], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`. Raises RunError where the service gives no usable reply."""
        config = self._config
        asked = {"prompts": prompts, "completions": completions, "rows": rows}
        answer = self._ask(json.dumps(_plain(asked), default=str).encode())
        scores = answer.get("scores") if isinstance(answer, dict) else None
        named = scores if scores and isinstance(scores, dict) else {reward_name(config): scores}
        for name, values in named.items():
            if not _numbers(values, len(prompts)):
                raise RunError(
                    f"reward '{config.url}': its scores '{name:.{_TOLD}}' are not {len(prompts)} "
                    "finite numbers",
                    hint='it should reply {"scores": [one number for each completion]}',
                )
        return {name: torch.tensor(values, dtype=torch.float32) for name, values in named.items()}

    def _ask(self, question: bytes) -> Any:
        from engine_rlhf.rewards.http_client import post

        config = self._config
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        for attempt in range(1, config.attempts + 1):
            try:
                return json.loads(post(config.url, question, headers, config.timeout))
            except (OSError, ValueError, RecursionError) as error:
                if attempt == config.attempts:
                    raise RunError(
                        f"reward '{config.url}': no answer after {attempt} attempts "
                        f"({type(error).__name__}: {error!s:.{_TOLD}})",
                        hint="repair the service and run again; training resumes from its checkpoint",
                    ) from error
                time.sleep(min(2**attempt, 30) / 4)
        raise AssertionError


def build(config: Http, context: Context) -> HttpReward:
    """Builds the reward. Raises RunError where its key is missing."""
    return HttpReward(config)


def _plain(value: Any) -> Any:
    """The value in JSON's types; NaN, which marks missing cells in data frames, becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= _LARGEST
            for value in values
        )
    )
