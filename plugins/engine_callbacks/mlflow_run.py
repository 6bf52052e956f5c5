"""Logs a stage to MLflow."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import (
    Context,
    RunError,
    host_of,
    is_loopback,
)
from engine_callbacks.config import MLflow
from engine_callbacks.tracker import Row, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Metric

# MLflow's own limits.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _PARAM_LENGTH = 1000, 100, 6000
_TOLD = 300
"""Characters of a server's message that an error quotes at most."""
_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # in a metric's name, e.g. the @ of pass@1


class MLflowTracker(Tracker):
    """One MLflow run per stage, also across resumes; its id is kept in RUN/STAGE/mlflow.run.

    If the store does not answer, training goes on, and rows wait for the next checkpoint.
    """

    def __init__(self, config: MLflow, context: Context) -> None:
        super().__init__(context)
        _keep_apart(config.uri)
        self._config = config
        self._waiting: list[Metric] = []
        self._answers = True

    def open(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`Tracker`. Raises RunError."""
        from mlflow import MlflowClient

        # MLflow logs the creation of tables, and servers' messages.
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        file = folder / "mlflow.run"
        try:
            self._client = MlflowClient(
                self._config.uri or f"sqlite:///{folder.resolve()}/mlflow.db"
            )
            if not file.exists():
                run_id = self._create(f"{folder.parent.name}/{stage}", folder, config)
                file.write_text(run_id, encoding="ascii")
            self._id = file.read_text(encoding="ascii")
            self._client.update_run(self._id, status="RUNNING")
            losses = self._client.get_metric_history(self._id, "loss")
        except Exception as error:  # any kind, as MLflow does not validate servers' replies
            raise RunError(
                f"{stage}: mlflow: {error!s:.{_TOLD}}", hint="check its `uri`"
            ) from error
        self.last = max((loss.step for loss in losses), default=0)

    def write(self, row: Row) -> None:
        """See :class:`Tracker`."""
        from mlflow.entities import Metric

        self._waiting += [
            Metric(_FORBIDDEN.sub("_", name), value, int(row.time * 1000), row.step)
            for name, value in row.figures.items()
        ]
        if self._answers:
            self.flush()

    def flush(self) -> None:
        """See :class:`Tracker`."""
        with self._patience():
            while self._waiting:
                self._client.log_batch(self._id, metrics=self._waiting[:_METRICS_AT_ONCE])
                del self._waiting[:_METRICS_AT_ONCE]

    def close(self) -> None:
        """See :class:`Tracker`."""
        self.flush()
        with self._patience():
            self._client.set_terminated(self._id, "FAILED" if sys.exception() else "FINISHED")

    @contextmanager
    def _patience(self) -> Iterator[None]:
        try:
            yield
            self._answers = True
        except Exception as error:
            self._answers = False
            told = f"{error!s:.{_TOLD}}"
            warnings.warn(f"mlflow: {len(self._waiting)} figures wait: {told}", stacklevel=2)

    def _create(self, name: str, folder: Path, config: Mapping[str, Any]) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(self._config.experiment)
        if experiment is None:
            artifacts = None if self._config.uri else str(folder.resolve() / "mlflow")
            experiment_id = self._client.create_experiment(self._config.experiment, artifacts)
        else:
            experiment_id = experiment.experiment_id
        run_id: str = self._client.create_run(experiment_id, run_name=name).info.run_id
        params = [Param(key, value[:_PARAM_LENGTH]) for key, value in _flat(config)]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_AT_ONCE])
        return run_id


def _keep_apart(uri: str | None) -> None:
    """Restricts MLflow to what the user allowed; called before its import, which sends telemetry.

    Otherwise it would follow redirects, print the run's name from the server, send a password from
    ~/.netrc, and use a proxy for this machine's own addresses.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_HTTP_REDIRECTS", "false")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["NETRC"] = os.devnull
    if uri is not None and uri.startswith("http") and is_loopback(host := host_of(uri)):
        others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        os.environ["no_proxy"] = f"{others},{host}" if others else host


def build(config: MLflow, context: Context) -> MLflowTracker:
    """The callback."""
    return MLflowTracker(config, context)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """``{"model": {"layers": 2}}`` → ``("model.layers", "2")``; None is left out."""
    if isinstance(value, Mapping | list):
        for name, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif value is not None:
        yield key, str(value)
