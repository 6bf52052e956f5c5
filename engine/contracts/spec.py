"""Pydantic models of a spec: a run of stages, each with one verb and its components."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain, count
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engine.contracts.amounts import (
    Amount,
    Count,
    Interval,
    Name,
    Number,
    Share,
    StageName,
    units,
)
from engine.contracts.component_config import (
    DataConfig,
    DataSourceConfig,
    EvaluatorConfig,
    InferenceConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PenaltyConfig,
    StrategyConfig,
    TokenizerConfig,
)
from engine.contracts.config import Config, Of, StageRef, runtime
from engine.contracts.model_config import ModelConfig
from engine.contracts.references import ordered, references
from engine.contracts.scoring import seed_of


class Prepare(Config):
    """Turns sources into token shards, a tokenizer and held-out documents."""

    sources: tuple[Annotated[DataSourceConfig, Of("data-source")], ...] = Field(
        min_length=1, description="Where the text comes from, each with its weight in the mixture."
    )
    processors: tuple[Annotated[Config, Of("processor")], ...] = Field(
        (), description="Steps that every record passes, in this order."
    )
    tokenizer: Annotated[TokenizerConfig, Of("tokenizer")] = Field(description="The tokenizer.")
    holdout: Share = Field(
        0.01, lt=1, description="Share of the documents that training never sees."
    )
    executor: Annotated[Config, Of("executor")] = runtime(
        description="Where the documents are prepared."
    )
    seconds_per_document: Number = runtime(
        60.0, gt=0, description="A document that takes a step longer is dropped, in seconds."
    )

    def source_names(self) -> list[str]:
        """Names of the sources in cards and logs: the type, numbered if several share it."""
        types = [source.type_name for source in self.sources]
        several = {name for name in types if types.count(name) > 1}
        return [f"{n}-{index}" if n in several else n for index, n in enumerate(types)]


class Ramp(Config):
    """A growing batch: tokens · factor^⌊t / every⌋, at most ``most``; t in the unit of ``every``."""

    every: Annotated[Interval, units("tokens", "steps")] = Field(
        description="Interval at which it grows."
    )
    factor: Number = Field(2.0, gt=1, description="Growth at each interval.")
    most: Count | None = Field(
        None, description="Largest batch, in tokens; without it, 16 × the first."
    )


class BatchSize(Config):
    """Size of the global batch, of its rows and of a micro-batch."""

    tokens: Count = Field(
        16384,
        description="Tokens in a global batch over all ranks: whole rows, as many on each rank.",
    )
    examples: Count | None = Field(
        None,
        description="In place of tokens: rows in a global batch, each an example (a pair, a prompt).",
    )
    sequence: Count | None = Field(
        None,
        description="Tokens in one row; without it, the model's context, capped at 4096 and a batch "
        "for a pretrained model.",
    )
    micro_tokens: Count | None = runtime(
        None, description="Tokens in one forward pass on one rank; without it, at most 8192."
    )
    ramp: Ramp | None = Field(None, description="Growth of the batch.")

    @model_validator(mode="after")
    def _one_size(self) -> BatchSize:
        default = type(self).model_fields["tokens"].default  # which a resolved spec spells out
        if self.examples is not None and self.tokens != default:
            raise ValueError("the batch is given in tokens or in examples, not in both")
        return self

    def in_tokens(self, sequence: int) -> int:
        """Tokens in a global batch with rows of ``sequence`` tokens."""
        return self.examples * sequence if self.examples else self.tokens


class Checkpoints(Config):
    """When checkpoints are written and which are kept."""

    every: Interval = Field(Amount(600, "seconds"), description="Interval; one more at the end.")
    keep: Count = Field(2, description="Number of last checkpoints kept, besides the best-scored.")
    background: bool = Field(True, description="Write while training goes on.")


class Train(Config):
    """Trains a model."""

    data: Annotated[DataConfig, Of("data-source", or_stage=True)] = Field(
        description="A prepare stage's name, or a source of records."
    )
    processors: tuple[Annotated[Config, Of("processor")], ...] = Field(
        (),
        description="For a source of records: steps that drop records, in this order, such as copies; "
        "each record is to them one text of all its turns.",
    )
    model: Annotated[ModelConfig, Of("model")] = Field(
        description="The model, or a train stage's name."
    )
    objective: Annotated[ObjectiveConfig, Of("objective")] = Field(
        description="What training minimises."
    )
    penalties: tuple[Annotated[PenaltyConfig, Of("penalty")], ...] = Field(
        (), description="Terms that are added to the objective's loss."
    )
    optimizer: Annotated[OptimizerConfig, Of("optimizer")] = Field(description="The optimizer.")
    strategy: Annotated[StrategyConfig, Of("strategy")] = runtime(
        description="How processes share the work."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Precision of the matrix products; master weights stay fp32. auto: bf16 where the "
        "processor or GPU has instructions for it, else fp32 on a CPU and fp16 on a GPU; chosen when "
        "the stage begins, and kept when it is resumed.",
    )
    batch: BatchSize = Field(BatchSize(), description="Size of the batch.")
    budget: Amount = runtime(
        Amount(1, "epochs"),
        description="How long to train. An epoch is a pass over every row; the last step of a budget "
        "in epochs takes what is left.",
    )
    clip: Number | None = Field(1.0, gt=0, description="Largest global norm of the gradient.")
    freeze: tuple[str, ...] = Field((), description="Globs of parameters that are not trained.")
    holdout: Share = Field(
        0.0,
        lt=1,
        description="For a source of records: share held out from training, decided by the first user "
        "turn, so that all stages with the same share hold out the same prompts.",
    )
    limit: Count | None = Field(
        None, description="For a source of records: number of examples to use, from the first on."
    )
    repetition: int = Field(
        0,
        ge=0,
        strict=True,
        description="Number of a repetition: another seed for weights, order and dropout, on the same "
        "documents. How their scores differ is the noise.",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Decay of an average of the weights, which is what is scored and exported: at its "
        "step t, at most (1 + t)/(10 + t), so that the initial weights are soon forgotten.",
    )
    activation_checkpointing: Literal["selective", "full"] | bool = runtime(
        False,
        description="Compute activations again in the backward pass, to save memory: whole layers "
        "(true), or all but their products with weights.",
    )
    offload_activations: bool = runtime(
        False, description="Keep activations in main memory when training on an accelerator."
    )
    compile: Literal["auto"] | bool = runtime(
        "auto",
        description="torch.compile of the layers, in steps whose rows all fill the sequence; auto: "
        "where the data gives such rows and the budget is long enough to repay it.",
    )
    evaluate: tuple[Annotated[EvaluatorConfig, Of("evaluator")], ...] = runtime(
        (), description="Scores during training and at its end."
    )
    inference: Annotated[InferenceConfig, Of("inference")] = runtime(
        description="What computes log-likelihoods, values and texts for scores, rollouts and rewards."
    )
    checkpoint: Checkpoints = runtime(Checkpoints(), description="Checkpoints.")
    check_replicas: Interval | None = runtime(
        None,
        description="How often copies of weights and optimizer state on different ranks are compared,"
        " to find a flipped bit; where there is no copy, one micro-batch is computed twice.",
    )
    callbacks: tuple[Annotated[Config, Of("callback")], ...] = runtime(
        (), description="Callbacks that monitor and steer training, in this order."
    )

    def row_length(self, model: ModelConfig) -> int | None:
        """Tokens in a row of a stage that starts from ``model``; None if unknown."""
        tokens = None if self.batch.examples else self.batch.tokens
        return self.batch.sequence or model.row_length(tokens)


def names_of(components: Sequence[EvaluatorConfig | PenaltyConfig]) -> list[str]:
    """Names in a stage's events: the name or type; from its second use on, numbered."""
    names: list[str] = []
    for component in components:
        called = component.name or component.type_name
        numbered = (f"{called}-{number}" for number in count(2))
        names.append(next(name for name in chain([called], numbered) if name not in names))
    return names


class Evaluate(Config):
    """Scores models."""

    models: tuple[Annotated[ModelConfig, Of("model")], ...] = Field(
        min_length=1, description="Train stages, or models of any kind."
    )
    data: Annotated[str, StageRef("prepare", "train")] | None = Field(
        None,
        description="Stage whose held-out documents, or records, the evaluators may use.",
    )
    evaluators: tuple[Annotated[EvaluatorConfig, Of("evaluator")], ...] = Field(
        min_length=1, description="What is measured."
    )
    baseline: str | None = Field(
        None,
        description="One of the models: its paired differences to each other model are scored, too, if "
        "the evaluator supports that.",
    )
    inference: Annotated[InferenceConfig, Of("inference")] = runtime(
        description="What computes log-likelihoods, values and texts of the models."
    )

    def model_names(self) -> list[str]:
        """Names of the models in scores: the name, else the stage or path, else the index."""
        names = []
        for number, model in enumerate(self.models):
            origin = model.origin
            names.append(model.given_name or origin.stage or origin.path or str(number))
        return names

    @model_validator(mode="after")
    def _baseline_is_there(self) -> Evaluate:
        names = self.model_names()
        if self.baseline is not None and self.baseline not in names:
            models = ", ".join(names)
            raise ValueError(f"baseline '{self.baseline}' is not one of the models {models}")
        return self


class Stage(Config):
    """One stage: exactly one of the three verbs."""

    prepare: Prepare | None = Field(None, description="Makes data and a tokenizer.")
    train: Train | None = Field(None, description="Makes a model.")
    evaluate: Evaluate | None = Field(None, description="Makes scores.")

    @model_validator(mode="after")
    def _one_verb(self) -> Stage:
        if sum(v is not None for v in (self.prepare, self.train, self.evaluate)) != 1:
            raise ValueError("a stage has exactly one of: prepare, train, evaluate")
        return self

    @property
    def verb(self) -> Literal["prepare", "train", "evaluate"]:
        """The stage's verb."""
        return "prepare" if self.prepare else "train" if self.train else "evaluate"

    @property
    def body(self) -> Any:
        """The verb's configuration."""
        return getattr(self, self.verb)


class Spec(Config):
    """The spec of a run: its name, seed and stages."""

    engine: Literal[1] = Field(description="Version of the spec's language.")
    name: Name = Field(description="Name of the run and of its folder.")
    seed: int = Field(0, ge=0, lt=2**63, strict=True, description="Seed of everything random.")
    plugins: tuple[str, ...] = Field((), description="Third-party plugins that this spec may use.")
    stages: dict[StageName, Stage] = Field(
        min_length=1, max_length=1000, description="Stages by name."
    )

    def seed_of(self, stage: str) -> int:
        """The seed of a stage: the spec's, or one derived from it for a repetition."""
        train = self.stages[stage].train
        if train is None or not train.repetition:
            return self.seed
        return seed_of(self.seed, "repetition", train.repetition)

    def dependencies(self, stage: str) -> list[str]:
        """The stages that this one depends on, in the order in which it names them."""
        return list(dict.fromkeys(r.stage for r in references(self.stages[stage].body)))

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Stages in the spec's order, each moved after those that it depends on."""
        return tuple(ordered({name: self.dependencies(name) for name in self.stages}))
