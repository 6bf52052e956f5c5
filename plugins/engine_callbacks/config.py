"""Configurations of the callbacks."""

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
"""Stores of MLflow's that are files."""
_STORED = "~/.mlflow/credentials"
"""Where MLflow finds a user and a password that are not in the environment."""
_LOGINS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


class SpikeGuard(Config):
    """Keeps gradient spikes out of the weights.

    A step whose gradient norm is NaN, infinite or above ``factor`` × the median norm of the last
    good steps is skipped. Several skipped in a row roll back to the last checkpoint before them,
    and their data is left out. In fp16, the overflows by which the loss scale finds its level are
    no spikes.
    """

    factor: Number = Field(10.0, gt=1, description="A spike is this many times the median norm.")
    window: Count = Field(
        100,
        description="Good steps whose norms make the median; finite spikes count from half of it on.",
    )
    patience: Count = Field(3, description="Steps skipped in a row that lead to a roll-back.")
    max_rollbacks: int = Field(
        3, ge=0, description="Roll-backs in a stage; where one more were due, the run fails."
    )


class EarlyStop(Config):
    """Ends the stage when a score no longer improves; every score knows which way is better."""

    metric: str = Field(
        description="The score, e.g. 'perplexity'; 'gsm8k/exact_match' where several evaluators "
        "give one of that name."
    )
    patience: Count = Field(
        3,
        description="Scores in a row without improvement that end it; counted anew where the stage "
        "then goes on with another budget.",
    )
    min_delta: Number = Field(
        0.0, ge=0, description="Only a change by more than this is an improvement."
    )


class TensorBoard(Config):
    """Event files in RUN/STAGE/tensorboard: `tensorboard --logdir runs` shows all runs."""


class Wandb(Config):
    """A Weights & Biases run in RUN/STAGE/wandb; `wandb sync RUN/STAGE/wandb` uploads it."""

    mode: Literal["offline", "online"] = Field(
        "offline",
        description="Write to disk only, or upload meanwhile, which needs `--allow network=HOST`.",
    )
    project: str = Field("engine", description="Project that the run belongs to.")
    entity: str | None = Field(None, description="User or team; without it, the key's own.")
    key_env: VariableName = Field(
        "WANDB_API_KEY",
        description="Environment variable with the API key; online only, with `--allow "
        "secret=NAME@HOST`.",
    )

    @property
    def server(self) -> str:
        """The server's address, by the user's environment alone: settings may lie beside a spec."""
        return os.environ.get("WANDB_BASE_URL") or _WANDB

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: online, the requests, and the key in them."""
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
        """See :class:`engine.Config`: the requests, and the logins in them; or writing elsewhere."""
        if self.uri is None:
            return
        if _LOCAL.fullmatch(self.uri):
            yield Need("uri", f"writes to {self.uri}", "files")
            return
        yield from network_need("uri", self.uri, _SENDS)
        stored = os.path.exists(os.path.expanduser(_STORED))
        for name in _LOGINS:
            if os.environ.get(name) or (stored and name != _LOGINS[-1]):
                yield secret_need("uri", name, self.uri)
