"""Rewards: a model of this run, the answer's length, a service."""

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

from engine import Context, LanguageModel, RunError, attend
from engine_rlhf.answers import Row
from engine_rlhf.config import Http, Length, StageReward, reward_name

_LARGEST = torch.finfo(torch.float32).max


class ModelReward:
    """What a scalar model gives at the end of an answer."""

    def __init__(self, lm: LanguageModel, name: str) -> None:
        self._lm, self._name = lm, name

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        tools = (row.get("tools") for row in rows)
        values = self._lm.scores(list(zip(prompts, completions, tools, strict=True)))
        return {self._name: torch.tensor([value for value, _ in values])}


class LengthReward:
    """Words."""

    def __init__(self, config: Length) -> None:
        self._config = config

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        words = torch.tensor([len(answer.split()) for answer in completions])
        return {reward_name(self._config): words / self._config.scale}


class HttpReward:
    """A service that is asked as ``{"prompts": […], "completions": […], "rows": [{…}, …]}`` in JSON and
    answers ``{"scores": […]}``, or several named lists of them."""

    def __init__(self, config: Http) -> None:
        self._config = config
        self._key = os.environ.get(config.key_env, "") if config.key_env else None
        # A header with any other character is refused by an error that would tell the key.
        if self._key is not None and not re.fullmatch("[!-~]+", self._key):
            raise RunError(
                f"reward '{config.url}': ${config.key_env} is not set to a token",
                mend="set it to the service's key, with no blank or line's end in it",
            )

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`. Raises RunError where no usable answer comes."""
        config = self._config
        asked = {"prompts": prompts, "completions": completions, "rows": rows}
        answer = self._ask(json.dumps(_plain(asked), default=str).encode())
        scores = answer.get("scores") if isinstance(answer, dict) else None
        named = scores if scores and isinstance(scores, dict) else {reward_name(config): scores}
        for name, values in named.items():
            if not _numbers(values, len(prompts)):
                raise RunError(
                    f"reward '{config.url}': its scores '{name}' are not {len(prompts)} "
                    "finite numbers",
                    mend='it should answer {"scores": [one number for each completion]}',
                )
        return {name: torch.tensor(values, dtype=torch.float32) for name, values in named.items()}

    def _ask(self, question: bytes) -> Any:
        from engine_rlhf.service import post

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
                        f"({type(error).__name__}: {error})",
                        mend="see to the service and run again: training goes on from its checkpoint",
                    ) from error
                time.sleep(min(2**attempt, 30) / 4)
        raise AssertionError


def scalar_model(context: Context, stage: str) -> tuple[Any, Any]:
    """A stage's model and tokenizer. Raises RunError where the model gives no single number."""
    artifact = context.artifact(stage)
    model: Any = artifact.model()
    if getattr(model.config, "num_labels", 0) != 1 or not hasattr(model, "score"):
        raise RunError(
            f"reward stage '{stage}' has a {type(model).__name__}, which gives no single number",
            mend="name a stage whose objective is `reward` or `cost`",
        )
    attend(model)
    return model.to(context.device), artifact.tokenizer()


def build_stage(config: StageReward, context: Context) -> ModelReward:
    """Opens the model. Raises RunError where it gives no single number."""
    model, tokenizer = scalar_model(context, config.stage)
    return ModelReward(LanguageModel(model, tokenizer), config.name or config.stage)


def build_length(config: Length, context: Context) -> LengthReward:
    """The reward."""
    return LengthReward(config)


def build_http(config: Http, context: Context) -> HttpReward:
    """The reward. Raises RunError where its key is missing."""
    return HttpReward(config)


def _plain(value: Any) -> Any:
    """As JSON has it: null for numbers that are none, as data frames mark what is missing."""
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
            isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= _LARGEST
            for v in values
        )
    )
