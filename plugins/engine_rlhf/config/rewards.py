"""Configurations of this plugin's rewards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from engine import (
    Count,
    Need,
    Number,
    RewardConfig,
    StageRef,
    VariableName,
    host_of,
    network_need,
    secret_need,
)


class StageReward(RewardConfig):
    """The value that a reward or cost stage's model gives, normalised by its stored mean and std."""

    stage: Annotated[str, StageRef("train", head="scalar")] = Field(
        description="Name of a reward or cost stage."
    )


class Length(RewardConfig):
    """The answer's length in words, divided by `scale`."""

    scale: Number = Field(1.0, gt=0, description="Number of words that give a reward of 1.")


def _web_address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("is not an address that begins with http:// or https://")
    host_of(url)
    return url


class Http(RewardConfig):
    """A web service. The engine posts `prompts`, `completions` and `rows` (the other columns of each
    prompt's record); the service replies with `scores`."""

    url: Annotated[str, AfterValidator(_web_address)] = Field(
        description="Address of the service; it needs `--allow network=HOST` unless the host is this "
        "machine (localhost, 127.0.0.1)."
    )
    key_env: VariableName | None = Field(
        None,
        description="Environment variable that holds the service's key (a bearer token); it needs "
        "`--allow secret=NAME@HOST`.",
    )
    timeout: Number = Field(
        60.0, gt=0, le=604_800, description="Seconds until a whole reply must have come."
    )
    attempts: Count = Field(3, description="Failed requests after which training stops.")

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: the request, and the key in it."""
        yield from network_need("url", self.url, "sends prompts and answers")
        if self.key_env:
            yield secret_need("key_env", self.key_env, self.url)


def reward_name(config: Any) -> str:
    """The name of a reward in logs and tables."""
    return str(config.name or config.type)
