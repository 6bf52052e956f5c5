"""A Weights & Biases run."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import wandb

from engine import Context, RunError
from engine_callbacks.config import Wandb
from engine_callbacks.tracker import Row, Tracker

_FLUSH_SECONDS = 1.0
"""How much a kill may take from the log; wandb's own is 15 s, and it cannot be told to flush."""


class WandbTracker(Tracker):
    """One run for the stage, however often it is resumed: wandb joins its folders by the run's id.

    wandb shifts a row whose step is behind the last one, so none is ever written again; the id and
    the last step are kept in a file of our own, since wandb's is not on the disk when we are killed.
    """

    def __init__(self, config: Wandb, context: Context) -> None:
        super().__init__(context)
        self._config = config

    def open(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`Tracker`. Raises RunError."""
        file = folder / "wandb" / "engine-run"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(_place(token_hex(4), 0))
        self._id, last = file.read_text(encoding="ascii").split()
        self.last = int(last)
        try:
            self._run = wandb.init(
                dir=folder,
                id=self._id,
                resume="allow",
                project=self._config.project,
                entity=self._config.entity,
                group=folder.parent.name,
                name=f"{folder.parent.name}/{stage}",
                config=dict(config),
                allow_val_change=True,
                mode=self._config.mode,
                reinit="create_new",
                settings=self._settings(stage),
            )
        except wandb.Error as error:
            raise RunError(
                f"{stage}: wandb: {error}", mend="or write `mode: offline` and `wandb sync` later"
            ) from error
        self._file = file.open("r+b", buffering=0)

    def write(self, row: Row) -> None:
        """See :class:`Tracker`."""
        self._run.log(row.figures, step=row.step, commit=True)
        self._file.seek(0)
        self._file.write(_place(self._id, row.step))

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._run.finish(exit_code=1 if sys.exception() else 0)
        self._file.close()

    def _settings(self, stage: str) -> wandb.Settings:
        settings = wandb.Settings(
            silent=True,
            console="off",
            base_url=self._config.server,
            x_transaction_log_flush_interval=_FLUSH_SECONDS,
        )
        if self._config.mode == "online":
            name = self._config.key_env
            if not os.environ.get(name):
                raise RunError(
                    f"{stage}: wandb: the environment variable {name} is not set",
                    mend="set it to your API key, or write `mode: offline`",
                )
            settings.api_key = os.environ[name]
        return settings


def build(config: Wandb, context: Context) -> WandbTracker:
    """The callback."""
    return WandbTracker(config, context)


def _place(run_id: str, step: int) -> bytes:
    """Always of one length, so that one write replaces another whole."""
    return f"{run_id} {step:015}\n".encode()
