"""The base class of models' configurations, and the origin of a model's weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from engine.contracts.component_config import ComponentConfig
from engine.contracts.config import Config
from engine.contracts.model_sizes import ModelShape, Scores


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of a model's weights: a train ``stage`` of the spec, or a ``path`` (a folder, or a name on
    the hub with its ``revision``). Without either the model starts untrained."""

    stage: str | None = None
    path: str | None = None
    revision: str | None = None


class ModelConfig(ComponentConfig):
    """Base of models: where the weights come from, the context length and the sizes."""

    longest_row: ClassVar[int] = 4096
    """Largest default row of a pretrained model, in tokens: four such rows fill a default batch."""

    @property
    def origin(self) -> Origin:
        """Origin of the weights, from the fields `stage`, `path` and `revision` if present."""
        return Origin(*(self._field(name) for name in ("stage", "path", "revision")))

    @property
    def given_name(self) -> str | None:
        """The model's name in scores and tables: the field `name`, if any."""
        return cast("str | None", self._field("name"))

    @property
    def trained_adapter(self) -> Config | None:
        """The adapter trained in place of the model: the field `adapter`, if any."""
        return cast("Config | None", self._field("adapter"))

    def _field(self, name: str) -> Any:
        return getattr(self, name) if name in type(self).model_fields else None

    def tokenizer_path(self) -> str | None:
        """Folder, or name on the hub, of the model's own tokenizer."""
        return self.origin.path

    def reads(self) -> Iterable[str]:
        """See :class:`Config`. A stage resumes only if the folders among these have not changed."""
        path = self.origin.path
        return () if path is None else (path,)

    def context_length(self) -> int | None:
        """Context length in tokens; None if the configuration alone does not determine it."""
        return None

    def row_length(self, batch_tokens: int | None) -> int | None:
        """Default length of a training row, in tokens; ``batch_tokens``: tokens in a global batch, None
        if the batch is given in examples."""
        return self.context_length()

    def shape(self, vocabulary: int | None) -> ModelShape | None:
        """The model's sizes, with a tokenizer of ``vocabulary`` tokens (None: unknown).

        None if the sizes are unknown. Raises OSError or ValueError for a damaged file.
        """
        return None

    def built_shape(self, vocabulary: int | None) -> ModelShape | None:
        """As :meth:`shape`, with what only the built model tells, such as its exact size.

        May import torch and take seconds.
        """
        return self.shape(vocabulary)

    def model_type(self) -> str | None:
        """The architecture, as in config.json: the field `architecture`, if any. None where it is
        unknown or the component's own. A spec must name the plugin that declares it."""
        return cast("str | None", self._field("architecture"))

    def scalar_head_fault(self) -> str | None:
        """Why the model cannot be given a scalar head, as of a reward model; None if it can."""
        return None

    def scores(self, device: str) -> Scores:
        """Attention scores that training keeps in memory on ``device``, ``cpu`` or ``cuda``."""
        return "none"
