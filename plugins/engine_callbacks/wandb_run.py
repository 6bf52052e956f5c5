"""Logs a stage to Weights & Biases."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import wandb

from engine import Context, RunError, read_regular
from engine_callbacks.config import Wandb
from engine_callbacks.tracker import Row, Tracker

_PLACE = re.compile(rb"([0-9a-f]{8}) ([0-9]{15})\n")
_FLUSH_SECONDS = 1.0
"""Seconds of the log that a kill may lose; wandb's default is 15, and it has no flush."""


class WandbTracker(Tracker):
    """One wandb run per stage, also across resumes, whose folders wandb joins by the run's id.

    wandb shifts a row whose step is behind the last one, so no row is written twice. Id and last step
    are kept in a separate file, as wandb's own may not have reached the disk when the run is killed.
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
        self._id, self.last = _read_place(file)
        _prepare()
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
                f"{stage}: wandb: {error}", hint="or write `mode: offline` and `wandb sync` later"
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
            disable_git=True,
            x_disable_meta=True,  # command line, user, host, folders
            x_save_requirements=False,
            base_url=self._config.server,
            x_transaction_log_flush_interval=_FLUSH_SECONDS,
        )
        if self._config.mode == "online":
            name = self._config.key_env
            if not os.environ.get(name):
                raise RunError(
                    f"{stage}: wandb: the environment variable {name} is not set",
                    hint="set it to your API key, or write `mode: offline`",
                )
            settings.api_key = os.environ[name]
        return settings


def _prepare() -> None:
    """Reads wandb's settings once, from the environment and the user's own file only.

    Settings in the working directory may come with a stranger's spec, and could send the key through a
    proxy or figures to other addresses. Also turns off wandb's error reports to its makers.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    with tempfile.TemporaryDirectory() as nothing, contextlib.chdir(nothing):
        wandb.setup()


def build(config: Wandb, context: Context) -> WandbTracker:
    """The callback."""
    return WandbTracker(config, context)


def _place(run_id: str, step: int) -> bytes:
    """The run's id and last step, in a fixed length, so that each write replaces the last whole."""
    return f"{run_id} {step:015}\n".encode()


def _read_place(file: Path) -> tuple[str, int]:
    """Id and last step, as :func:`_place` writes them. Raises RunError."""
    found = _PLACE.fullmatch(read_regular(file))
    if found is None:
        raise RunError(f"{file}: is damaged", hint="remove it; wandb then begins another run")
    return found[1].decode(), int(found[2])
