"""What a spec may set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from engine import (
    Count,
    DataSourceConfig,
    Number,
    Of,
    PenaltyConfig,
    PenaltyInput,
    Schema,
    Share,
)
from pydantic import Field


class ElasticWeights(PenaltyConfig):
    """Elastic weight consolidation (Kirkpatrick et al. 2017, eq. 3): ½ Σ F (w − w at the start)².

    F is the diagonal of the empirical Fisher information of a token of the old texts, measured when
    the stage starts: squared gradients of the log-likelihood of sequences, summed and divided by
    their tokens. A weight of 1 counts as many old tokens as new ones.
    """

    inputs: ClassVar[frozenset[PenaltyInput]] = frozenset({"parameters"})
    kept_floats: ClassVar[float] = 3  # with F itself, of which the engine has a copy

    weight: Number = Field(1.0, ge=0, description="Factor on the term: old tokens per new token.")
    old: Annotated[DataSourceConfig, Of("data-source")] = Field(
        description="Source of the old texts; it is read and tokenized to its end."
    )
    holdout: Share = Field(
        0.0, lt=1, description="Share of the old texts left out: those that a stage holds out."
    )
    sequences: Count = Field(
        256, description="Sequences, drawn from all texts, that F is measured on."
    )
    length: Annotated[Count, Field(ge=2)] = Field(
        128, description="Longest sequence, in tokens; at most the model's context."
    )

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`."""
        gives = self.old.gives()
        if gives not in (None, "text"):
            return {
                "old": f"gives {gives} records, but F is measured on texts: name another source"
            }
        return _without_effect("old", self.old, ("weight", "max_epochs", "priority"))


class Replay(DataSourceConfig):
    """New records, and among them a share of old ones.

    All new records come in their order. The old ones are drawn from their whole source by the run's
    seed, and stand at even distances, so that a stage's `limit` keeps the share.
    """

    new: Annotated[DataSourceConfig, Of("data-source")] = Field(description="Source to learn.")
    old: Annotated[DataSourceConfig, Of("data-source")] = Field(
        description="Source to keep in mind, of the same schema."
    )
    share: Annotated[Share, Field(gt=0, lt=1)] = Field(
        0.1, description="Share of all records that are old; no old record comes twice."
    )

    def gives(self) -> Schema | None:
        """See :class:`engine.DataSourceConfig`: as both sources."""
        new, old = self.new.gives(), self.old.gives()
        return new if new == old else None

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`."""
        new, old = self.new.gives(), self.old.gives()
        if new and old and new != old:
            return {"old": f"gives {old} records, but `new` gives {new}: both need one schema"}
        fields = tuple(DataSourceConfig.model_fields)
        return {
            **_without_effect("new", self.new, fields),
            **_without_effect("old", self.old, fields),
        }


def _without_effect(
    name: str, source: DataSourceConfig, fields: Sequence[str]
) -> Mapping[str, str]:
    """What to tell of fields of an inner source that are set, but that nothing reads."""
    defaults = DataSourceConfig.model_fields
    unread = [field for field in fields if getattr(source, field) != defaults[field].default]
    return {f"{name}.{field}": "has no effect in here: leave it out" for field in unread}
