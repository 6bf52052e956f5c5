"""Data sets through Hugging Face's `datasets`, streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from engine import Bad, Context, Record, RunError
from engine_data.card import elsewhere
from engine_data.config import HuggingFace
from engine_data.places import expanded
from engine_data.recognition import Recogniser, Say
from engine_data.saved import saved_folder, saved_rows, saved_splits
from engine_data.tables import Rows


class HuggingFaceSource:
    """The rows of one split, in the data set's order."""

    def __init__(self, config: HuggingFace, say: Say = lambda message, **fields: None) -> None:
        self._config = config
        self._say = say

    def records(self, part: int, of: int) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`. Raises RunError when the data set cannot be read."""
        config = self._config
        recogniser = Recogniser(
            config.records, config.columns, license=config.license, say=self._say
        )
        return islice(recogniser.records(self._rows(), config.path), part, None, of)

    def _rows(self) -> Rows:
        config = self._config
        path = expanded(config.path)
        folder = Path(path)
        splits = saved_splits(folder)
        if splits:
            if config.split not in splits:
                raise RunError(
                    f"data set '{config.path}' has no split '{config.split}'",
                    mend=f"it has {', '.join(splits)}",
                )
            folder = folder / config.split
        if folder.is_dir() and saved_folder(folder):
            return saved_rows(folder)
        return self._loaded(path)

    def _loaded(self, path: str) -> Rows:
        import datasets

        config = self._config
        wrong = elsewhere(Path(path)) if Path(path).is_dir() else None
        if wrong:
            raise RunError(f"data set {wrong}")
        token = None
        if config.token_env is not None:
            token = os.environ.get(config.token_env)
            if token is None:
                raise RunError(f"the environment variable {config.token_env} is not set")
        try:
            rows = datasets.load_dataset(
                path,
                config.name,
                split=config.split,
                revision=config.revision,
                streaming=config.streaming,
                token=token,
            )
            for number, row in enumerate(rows):
                yield f"{config.path}/{config.split}/{number}", row
        except Exception as error:  # whatever the formats, servers and caches below it raise
            raise RunError(
                f"data set '{config.path}' ({config.split}) cannot be read: {error}",
                mend="check its name, configuration, split and revision",
            ) from error


def build(config: HuggingFace, context: Context) -> HuggingFaceSource:
    """The source."""
    return HuggingFaceSource(config, partial(context.say, "source"))
