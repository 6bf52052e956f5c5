"""Data sets through Hugging Face's `datasets`, streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from engine import Context, Record, RunError, record_from_row
from engine_data.config import HuggingFace


class HuggingFaceSource:
    """The rows of one split, in the data set's order."""

    def __init__(self, config: HuggingFace) -> None:
        self._config = config

    def records(self, part: int, of: int) -> Iterator[Record]:
        """See :class:`engine.DataSource`. Raises RunError when the data set cannot be read."""
        config = self._config
        for number, row in islice(enumerate(self._rows()), part, None, of):
            identity = f"{config.path}/{config.split}/{number}"
            yield record_from_row(
                config.records,
                self._renamed(row, identity),
                id=identity,
                source=config.path,
                license=config.license,
            )

    def _renamed(self, row: Mapping[str, Any], identity: str) -> dict[str, Any]:
        """The row with the columns that `columns` names under their fields' names."""
        columns = self._config.columns
        missing = sorted(set(columns.values()) - set(row))
        if missing:
            raise RunError(
                f"{identity}: no column '{missing[0]}', which `columns` names",
                mend=f"it has {', '.join(row)}",
            )
        rest = {k: v for k, v in row.items() if k not in {*columns, *columns.values()}}
        return rest | {field: row[column] for field, column in columns.items()}

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        import datasets

        config = self._config
        token = None
        if config.token_env is not None:
            token = os.environ.get(config.token_env)
            if token is None:
                raise RunError(f"the environment variable {config.token_env} is not set")
        try:
            yield from datasets.load_dataset(
                config.path,
                config.name,
                split=config.split,
                revision=config.revision,
                streaming=config.streaming,
                token=token,
            )
        except Exception as error:  # whatever the formats, servers and caches below it raise
            raise RunError(
                f"data set '{config.path}' ({config.split}) cannot be read: {error}",
                mend="check its name, configuration, split and revision",
            ) from error


def build(config: HuggingFace, context: Context) -> HuggingFaceSource:
    """The source."""
    return HuggingFaceSource(config)
