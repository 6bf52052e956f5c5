"""Data sets through Hugging Face's `datasets`, streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from engine import Context, Record, RunError, record_from_row
from engine_data.config import HuggingFace


class HuggingFaceSource:
    """The rows of one split, in the data set's order."""

    def __init__(self, config: HuggingFace) -> None:
        self._config = config

    def records(self, part: int, of: int) -> Iterator[Record]:
        """See :class:`engine.DataSource`. Raises RunError when the data set cannot be opened."""
        config = self._config
        for number, row in islice(enumerate(self._open()), part, None, of):
            row = {"license": config.license, **row}
            row |= {name: row[column] for name, column in config.columns.items() if column in row}
            identity = f"{config.path}/{config.split}/{number}"
            yield record_from_row(config.records, row, id=identity, source=config.path)

    def _open(self) -> Any:
        import datasets

        config = self._config
        token = None
        if config.token_env is not None:
            token = os.environ.get(config.token_env)
            if token is None:
                raise RunError(f"the environment variable {config.token_env} is not set")
        try:
            return datasets.load_dataset(
                config.path,
                config.name,
                split=config.split,
                revision=config.revision,
                streaming=config.streaming,
                token=token,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(
                f"data set '{config.path}' ({config.split}) cannot be opened: {error}",
                mend="check its name, split and revision",
            ) from error


def build(config: HuggingFace, context: Context) -> HuggingFaceSource:
    """The source."""
    return HuggingFaceSource(config)
