"""Configurations of the callbacks."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from engine import Config, Count, Number


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
        "offline", description="Write to disk only, or upload meanwhile."
    )
    project: str = Field("engine", description="Project that the run belongs to.")
    entity: str | None = Field(None, description="User or team; without it, the key's own.")
    key_env: str = Field(
        "WANDB_API_KEY", description="Environment variable with the API key; online only."
    )


class MLflow(Config):
    """An MLflow run, by default in the store RUN/STAGE/mlflow.db."""

    uri: str | None = Field(
        None,
        description="Another tracking store or server, to which MLflow logs in with its own "
        "environment variables (MLFLOW_TRACKING_TOKEN …).",
    )
    experiment: str = Field("engine", description="Experiment that the run belongs to.")

    @field_validator("uri")
    @classmethod
    def _no_secret(cls, uri: str | None) -> str | None:
        if uri and urlsplit(uri).password:
            raise ValueError(
                "a password does not belong in a spec; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        return uri
