"""Source ``hugging-face``: data sets opened with the `datasets` library."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engine import (
    Bad,
    Context,
    DataSource,
    Record,
    RunError,
)
from engine.files import expanded, version_of
from engine_data.config import HuggingFace
from engine_data.dataset_card import dataset_fault
from engine_data.rows.readers import Rows
from engine_data.rows.recognition import Recogniser, Say
from engine_data.rows.saved_datasets import saved_folder, saved_rows, saved_splits


class HuggingFaceSource(DataSource):
    """The rows of one split in order."""

    def __init__(self, config: HuggingFace, say: Say = lambda message, **fields: None) -> None:
        self._config = config
        self._say = say

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`. Raises RunError when the data set cannot be read."""
        config = self._config
        recogniser = Recogniser(
            config.records, config.columns, license=config.license, say=self._say
        )
        return recogniser.records(self._rows(), config.path)

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`: of a folder; on the hub, the settings name a revision."""
        folder = Path(expanded(self._config.path))
        return version_of([folder]) if folder.is_dir() else ""

    def _rows(self) -> Rows:
        config = self._config
        path = expanded(config.path)
        folder = Path(path)
        splits = saved_splits(folder)
        if splits:
            if config.split not in splits:
                raise RunError(
                    f"data set '{config.path}' has no split '{config.split}'",
                    hint=f"it has {', '.join(splits)}",
                )
            folder = folder / config.split
        if folder.is_dir() and saved_folder(folder):
            return saved_rows(folder)
        return self._loaded(path)

    def _loaded(self, path: str) -> Rows:
        import datasets

        config = self._config
        wrong = dataset_fault(path)
        if wrong:
            raise RunError(f"data set {wrong}")
        token = None
        if config.token_env is not None:
            token = os.environ.get(config.token_env)
            if token is None:
                raise RunError(f"the environment variable {config.token_env} is not set")
        try:
            rows = datasets.load_dataset(
                os.path.abspath(path) if os.path.isdir(path) else path,
                config.name,
                split=config.split,
                revision=config.revision,
                streaming=config.streaming,
                token=token,
            )
            for number, row in enumerate(_unopened(rows)):
                yield f"{config.path}/{config.split}/{number}", row
        except Exception as error:  # formats, servers and caches may raise anything
            raise RunError(
                f"data set '{config.path}' ({config.split}) cannot be read: {error}",
                hint="check its name, configuration, split and revision",
            ) from error


def _unopened(rows: Any) -> Any:
    """The rows without decoding images, sounds and other files, which would open any path or address
    that a row names."""
    features = rows.features
    if features is None or (plain := _undecoded(features)) == features:
        return rows
    from datasets import Features, IterableDataset

    read = rows if isinstance(rows, IterableDataset) else rows.to_iterable_dataset()
    return read.decode(False).cast(Features(plain))


def _undecoded(feature: Any) -> Any:
    """A column's type, or columns' types by name, with decoding of files turned off."""
    if isinstance(feature, Mapping):
        return {name: _undecoded(part) for name, part in feature.items()}
    if hasattr(feature, "feature"):  # of a list
        return replace(feature, feature=_undecoded(feature.feature))
    if type(feature).__name__ == "Json" or not hasattr(feature, "decode"):
        return feature
    return replace(feature, decode=False)


def build(config: HuggingFace, context: Context) -> HuggingFaceSource:
    """Builds the source."""
    return HuggingFaceSource(config, partial(context.say, "source"))
