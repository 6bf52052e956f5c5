"""The components that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_callbacks() -> Sequence[Component]:
    """Callbacks that steer training, and experiment trackers."""
    return [
        Component(
            "spike-guard",
            "engine_callbacks.config:SpikeGuard",
            "engine_callbacks.spike_guard:build",
            "Skips steps with a gradient spike, and rolls back after several in a row.",
        ),
        Component(
            "early-stop",
            "engine_callbacks.config:EarlyStop",
            "engine_callbacks.early_stop:build",
            "Ends the stage when a score no longer improves.",
        ),
        Component(
            "tensorboard",
            "engine_callbacks.config:TensorBoard",
            "engine_callbacks.tensorboard_log:build",
            "Logs figures and scores as TensorBoard event files.",
            extra="callbacks",
        ),
        Component(
            "wandb",
            "engine_callbacks.config:Wandb",
            "engine_callbacks.wandb_run:build",
            "Logs figures and scores as a Weights & Biases run, offline by default.",
            extra="callbacks",
        ),
        Component(
            "mlflow",
            "engine_callbacks.config:MLflow",
            "engine_callbacks.mlflow_run:build",
            "Logs figures and scores as an MLflow run, by default in the stage's folder.",
            extra="callbacks",
        ),
    ]
