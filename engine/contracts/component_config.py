"""Base classes of components' configurations, one for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from engine.contracts.amounts import Count, Interval, Number, Share
from engine.contracts.component import Schema
from engine.contracts.config import Config, Of, runtime
from engine.contracts.model_sizes import BatchWork, Beside, Layout, ModelShape

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class ComponentConfig(Config):
    """Base of configurations that a spec selects by ``type``."""

    @property
    def type_name(self) -> str:
        """The component's type in the spec; empty outside a spec."""
        return str(getattr(self, "type", ""))


class DataConfig(ComponentConfig):
    """Base of a train stage's data."""

    def gives(self) -> Schema | None:
        """Schema of the records; None if it is known only after reading."""
        return "text"

    def prepare_stage(self) -> str | None:
        """Name of the stage that prepares the data, if any."""
        return None

    def text_bytes(self) -> tuple[int, int] | None:
        """Most bytes of a record's prompt and of its answer, for ``engine plan``; None if the settings
        do not tell them."""
        return None


class DataSourceConfig(DataConfig):
    """Base of data sources: the schema of their records, and their share of a mixture."""

    weight: Number = runtime(
        1.0, ge=0, description="Share of the samples, relative to other sources."
    )
    max_epochs: Number | None = runtime(
        None,
        gt=0,
        description="Most passes over the source; without it, as many as needed.",
    )
    bad: Share = runtime(
        0.01,
        description="Share of the rows that may be bad; fewer than ten never stop a stage.",
    )
    priority: int = Field(
        1, description="Of two copies in a corpus that of the source with the higher one stays."
    )


class ObjectiveConfig(ComponentConfig):
    """Base of objectives: the record schemas they take and the head they need."""

    takes: ClassVar[frozenset[Schema]] = frozenset({"text"})
    """Schemas of the records that :meth:`engine.Objective.encode` accepts; a prepared corpus counts as
    ``text``."""
    external_loop: ClassVar[bool] = False
    """True if the factory returns an :class:`engine.ExternalLoop`."""
    head: ClassVar[Literal["lm", "scalar"]] = "lm"
    """Head of the model to train: logits over the vocabulary, or one number for each position."""

    def check_train(self, train: Any, processes: int) -> str | None:
        """Describes a conflict with the rest of the train stage, naming both values; None if there is
        none."""
        return None

    def prepared_fault(self) -> str | None:
        """Why the objective cannot train on a prepared corpus, as a clause, of which it gets windows by
        :meth:`engine.Objective.encode_window`; None if it can."""
        return None

    def warnings(self) -> Sequence[str]:
        """Warnings about valid settings with unexpected effects."""
        return ()

    def beside(self) -> Beside:
        """Further models that training holds in memory, for ``engine plan``."""
        return Beside()

    def batch_work(self) -> BatchWork:
        """What is computed with a global batch, for ``engine plan`` and the FLOPs in the log."""
        return BatchWork()


PenaltyInput = Literal["hidden", "modules", "parameters"]
"""What a penalty reads: the last hidden states and the head, what modules put out, or parameters."""


class PenaltyConfig(ComponentConfig):
    """Base of penalties."""

    inputs: ClassVar[frozenset[PenaltyInput]] = frozenset({"hidden"})
    """What the penalty reads, which decides under which strategies it works."""
    kept_floats: ClassVar[float] = 0
    """Numbers per parameter that :meth:`engine.Penalty.keep` keeps, for ``engine plan``."""

    weight: Number = Field(1.0, description="Factor on the term.")
    name: _Name | None = Field(None, description="Name in logs; without it, the type.")


class RewardConfig(ComponentConfig):
    """Base of rewards: their weight in a sum, their name, and the columns that they need."""

    weight: Number = Field(1.0, description="Factor in the sum of rewards.")
    name: _Name | None = Field(None, description="Name in logs and tables; without it, the type.")

    def check_row(self, row: Mapping[str, Any]) -> str | None:
        """Describes what is missing from the further columns of a prompt's record; None if nothing.

        Called for every record before the first step.
        """
        return None


class TokenizerConfig(ComponentConfig):
    """Base of tokenizers: the size of the vocabulary, if it is known before training."""

    def vocabulary(self) -> int | None:
        """Number of tokens, added ones included; None if the configuration does not determine it."""
        return None


class ParameterGroup(Config):
    """Parameters, selected by name, with their own learning rate or weight decay."""

    match: str = Field(description="Glob over parameter names, e.g. '*.embed_tokens.*'.")
    lr_scale: Number = Field(1.0, ge=0, description="Factor on the learning rate.")
    weight_decay: Number | None = Field(
        None, ge=0, description="Decay in place of the optimizer's."
    )


class OptimizerConfig(ComponentConfig):
    """Base of optimizers: learning rate, schedule and weight decay, with the same meaning for all."""

    elementwise: ClassVar[bool] = True
    """False for optimizers that need whole, unsharded matrices."""

    lr: Number = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: Number = Field(
        0.1, ge=0, description="Decoupled decay of matrices, per unit of lr."
    )
    schedule: Annotated[Config, Of("schedule")] = Field(description="Learning-rate schedule.")
    groups: tuple[ParameterGroup, ...] = Field(
        (), description="Parameters with a rate or decay of their own; the first match counts."
    )

    def state_floats(self, *, hidden: bool) -> float:
        """Numbers of optimizer state per parameter; ``hidden``: for matrices between embedding and
        head, else for all other parameters."""
        return 2


class OptimizerWrapperConfig(OptimizerConfig):
    """Base of optimizers around another one, whose learning rate, schedule, decay and groups count."""

    optimizer: Annotated[OptimizerConfig, Of("optimizer")] = Field(
        description="The optimizer inside, with the learning rate and all that belongs to it."
    )

    @model_validator(mode="after")
    def _takes_from_inside(self) -> OptimizerWrapperConfig:
        for name in OptimizerConfig.model_fields:
            inside = getattr(self.optimizer, name)
            if name in self.model_fields_set and getattr(self, name) != inside:
                raise ValueError(f"{name}: set it inside `optimizer`, whose {name} counts")
            object.__setattr__(self, name, inside)
        return self

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        """Whether the optimizer inside works on parts of matrices."""
        return self.optimizer.elementwise

    def state_floats(self, *, hidden: bool) -> float:
        """See :class:`OptimizerConfig`: those of the optimizer inside; add what the wrapper keeps."""
        return self.optimizer.state_floats(hidden=hidden)


class StrategyConfig(ComponentConfig):
    """Base of parallel strategies: what they split, and over how many processes they work."""

    whole_matrices: ClassVar[bool] = True
    """False if parameters are sharded, which excludes optimizers that need whole matrices."""
    chooses: ClassVar[bool] = False
    """True for a strategy that selects one of the others, such as ``auto``."""
    automatic: ClassVar[bool] = False
    """True for a strategy that may be selected automatically; others only if a spec names them."""

    @property
    def penalty_inputs(self) -> frozenset[PenaltyInput]:
        """What penalties may read under this strategy, with the loss and the gradient of one process;
        others are refused."""
        return frozenset({"hidden"})

    def check_processes(self, processes: int) -> str | None:
        """Why the strategy cannot run on this many processes, and which numbers work; or None."""
        return None

    def check_model(self, shape: ModelShape, processes: int) -> str | None:
        """Why a model of this shape cannot be split over the processes, and what works; or None."""
        return None

    def check_train(self, train: Any, processes: int) -> str | None:
        """Describes a conflict with the rest of the train stage, naming both values; None if there is
        none."""
        return None

    def layout(self, processes: int) -> Layout:
        """Degrees of parallelism on a number of processes that :meth:`check_processes` accepts."""
        return Layout(data=processes)

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """Settings worth trying on this many processes when searching for a layout that fits."""
        return ()


class EvaluatorConfig(ComponentConfig):
    """Base of evaluators: the head that they need, and whether they need held-out records."""

    head: ClassVar[Literal["lm", "scalar"]] = "lm"
    """Head of the models to score; ``scalar`` for :class:`engine.Value` requests."""
    held_out: ClassVar[bool] = False
    """True for an evaluator that reads :meth:`engine.Context.held_out`."""
    asks_known_items: ClassVar[bool] = True
    """False for one without items whose answers a model could have learned: no corpus is searched for
    what it asks."""

    every: Interval | None = Field(
        None, description="During training: how often; without it, only at the end."
    )
    limit: Count | None = Field(None, description="Number of items to use, from the first on.")
    name: _Name | None = runtime(
        None, description="Name in scores and tables; without it, the type."
    )


class InferenceConfig(ComponentConfig):
    """Base of inference components."""
