"""Configurations of this plugin's callbacks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, field_validator

from engine import (
    Config,
    Count,
    Need,
    Number,
    VariableName,
    host_of,
    network_need,
    secret_need,
)

_SENDS = "sends figures and the configuration"
_WANDB = "https://api.wandb.ai"
_LOCAL = re.compile(r"sqlite:///[^?#]+|(file:(//)?)?[^:?#]*/[^:?#]*")
"""Schemes of MLflow stores that are local files."""
_STORED = "~/.mlflow/credentials"
"""File from which MLflow reads a user and a password that are not in the environment."""
_LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
_OTHER_LOGINS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")


class SpikeGuard(Config):
    """Keeps gradient spikes out of the weights.

    Skips a step whose gradient norm is NaN, infinite or above ``factor`` × the median norm of the last
    good steps. After several skipped steps in a row, training rolls back to the last checkpoint before
    them, and leaves out their data. Overflows that only lower fp16's loss scale are not spikes.
    """

    factor: Number = Field(
        10.0, gt=1, description="Ratio to the median norm above which a gradient norm is a spike."
    )
    window: Count = Field(
        100,
        description="Number of good steps in the median; finite spikes count after half as many.",
    )
    patience: Count = Field(3, description="Steps skipped in a row before a roll-back.")
    max_rollbacks: int = Field(
        3, ge=0, description="Most roll-backs in a stage; instead of another one, the run fails."
    )


class EarlyStop(Config):
    """Ends the stage when a score no longer improves, upwards or downwards, whichever is better."""

    metric: str = Field(
        description="Name of the score, e.g. 'perplexity', or 'gsm8k/exact_match' if several "
        "evaluators give a score of that name."
    )
    patience: Count = Field(
        3,
        description="Scores in a row without improvement after which the stage ends; the count "
        "restarts if the stage is then continued with another budget.",
    )
    min_delta: Number = Field(
        0.0, ge=0, description="Amount by which a score must change to be an improvement."
    )


class TensorBoard(Config):
    """Event files in RUN/STAGE/tensorboard: `tensorboard --logdir runs` shows all runs."""


class Wandb(Config):
    """A Weights & Biases run in RUN/STAGE/wandb; `wandb sync RUN/STAGE/wandb` uploads it."""

    mode: Literal["offline", "online"] = Field(
        "offline",
        description="Write to disk only, or also upload, which needs `--allow network=HOST`.",
    )
    project: str = Field("engine", description="Project that the run belongs to.")
    entity: str | None = Field(None, description="User or team; by default the API key's.")
    key_env: VariableName = Field(
        "WANDB_API_KEY",
        description="Environment variable with the API key; online only, with `--allow "
        "secret=NAME@HOST`.",
    )

    @property
    def server(self) -> str:
        """The server's address, only from the environment, as a settings file may come with a spec."""
        return os.environ.get("WANDB_BASE_URL") or _WANDB

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: requests and the API key, if online."""
        if self.mode == "online":
            yield from network_need("mode", self.server, _SENDS)
            yield secret_need("key_env", self.key_env, self.server)


class MLflow(Config):
    """An MLflow run, by default in the store RUN/STAGE/mlflow.db."""

    uri: str | None = Field(
        None,
        description="Another tracking store (`sqlite:///FILE` or a folder), or a server, which needs "
        "`--allow network=HOST` unless it is this machine. MLflow logs in with its own environment "
        "variables (MLFLOW_TRACKING_TOKEN …), each of which needs `--allow secret=NAME@HOST`.",
    )
    experiment: str = Field("engine", description="Experiment that the run belongs to.")

    @field_validator("uri")
    @classmethod
    def _is_known(cls, uri: str | None) -> str | None:
        if uri is not None and not _LOCAL.fullmatch(uri):
            if not uri.startswith(("http://", "https://")):
                raise ValueError("is neither https://HOST, sqlite:///FILE nor a folder")
            host_of(uri)
        return uri

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: requests with their logins, or writing outside the run."""
        if self.uri is None:
            return
        if _LOCAL.fullmatch(self.uri):
            yield Need("uri", f"writes to {self.uri}", "files")
            return
        yield from network_need("uri", self.uri, _SENDS)
        stored = os.path.exists(os.path.expanduser(_STORED))
        for name in (*_LOGIN, *_OTHER_LOGINS):
            if os.environ.get(name) or (stored and name in _LOGIN):
                yield secret_need("uri", name, self.uri)
