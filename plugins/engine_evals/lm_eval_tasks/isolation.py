"""Isolates lm-eval's code from the run, and names the task in its errors."""

from __future__ import annotations

import io
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from engine import RunError
from engine_evals.loggers import quiet

_PYTHON_SEED, _NUMPY_SEED = 0, 1234
"""lm-eval's seeds of Python's and numpy's random numbers."""
_TALKATIVE = ("lm_eval", "datasets", "huggingface_hub", "evaluate")


@contextmanager
def isolated() -> Iterator[None]:
    """Runs lm-eval with its own seeds, silent, in one process, and without metrics from the working
    directory.

    Afterwards everything is restored, as training draws from the same random generators.
    """
    states = random.getstate(), np.random.get_state()
    several = os.environ.get("DISABLE_MULTIPROC")
    nowhere = _Nowhere()
    metrics = sys.modules.get("evaluate")
    try:
        sys.modules["evaluate"] = _Metrics("evaluate")
        random.seed(_PYTHON_SEED)
        np.random.seed(_NUMPY_SEED)
        # lm-eval's bootstrap would fork a process per core from the training process.
        os.environ["DISABLE_MULTIPROC"] = "1"
        with (
            quiet(_TALKATIVE, logging.ERROR),
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        del sys.modules["evaluate"]
        if metrics is not None:
            sys.modules["evaluate"] = metrics
        random.setstate(states[0])
        np.random.set_state(states[1])
        del os.environ["DISABLE_MULTIPROC"]
        if several is not None:
            os.environ["DISABLE_MULTIPROC"] = several


@contextmanager
def naming_errors(what: str) -> Iterator[None]:
    """Turns any error in a task's code into a RunError that says what was being done."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        (told, *_) = str(error).splitlines() or [""]
        hint = None
        if isinstance(error, OSError):
            hint = (
                "data are downloaded from the hub once: run on a machine that is online, without "
                "HF_HUB_OFFLINE, or provide the files that the task names"
            )
        elif isinstance(error, ImportError):
            hint = "install what the task needs"
        raise RunError(f"{what}: {type(error).__name__}: {told}", hint=hint) from error


class _Metrics(ModuleType):
    """Replaces Hugging Face's evaluate, which would run code from a local folder with a metric's name.
    The library itself is imported on first use, as that takes seconds."""

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # only packages have it
            raise AttributeError(name)
        return getattr(_evaluate(), name)

    def load(self, path: str, *rest: Any, **options: Any) -> Any:
        """Loads a metric. Raises RunError where a local folder would replace it."""
        if os.path.exists(path):
            raise RunError(
                f"lm-eval's metric '{path}': what has this name in the working directory would be run",
                hint="start the run in another folder",
            )
        return _evaluate().load(path, *rest, **options)


@cache
def _evaluate() -> Any:
    own = sys.modules.pop("evaluate")
    try:
        return import_module("evaluate")
    finally:
        sys.modules["evaluate"] = own


class _Nowhere(io.TextIOBase):
    """Discards all text; never closed, since loggers may keep it."""

    def write(self, text: str) -> int:
        return len(text)
