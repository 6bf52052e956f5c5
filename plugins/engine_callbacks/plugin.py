"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_callbacks() -> Sequence[Component]:
    """What steers training, and where its figures are written."""
    return [
        Component(
            "spike-guard",
            "engine_callbacks.config:SpikeGuard",
            "engine_callbacks.spike_guard:build",
            "Skips steps with a gradient spike; after several in a row, rolls back.",
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
            "Figures and scores as TensorBoard event files.",
            extra="callbacks",
        ),
        Component(
            "wandb",
            "engine_callbacks.config:Wandb",
            "engine_callbacks.wandb_run:build",
            "Figures and scores as a Weights & Biases run, offline unless asked otherwise.",
            extra="callbacks",
        ),
        Component(
            "mlflow",
            "engine_callbacks.config:MLflow",
            "engine_callbacks.mlflow_run:build",
            "Figures and scores as an MLflow run, in a store beside the checkpoints.",
            extra="callbacks",
        ),
    ]
