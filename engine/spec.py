"""The run spec: its models, loading, and every check that needs no tensor.

Nothing here imports torch or transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from engine import source as sources
from engine.checks import every_config, inconsistencies, ordered, place_of, references
from engine.compose import Composer
from engine.config import (
    Amount,
    Config,
    Count,
    Interval,
    Number,
    Of,
    Share,
    StageRef,
    runtime,
    units,
)
from engine.document import Path_, Source
from engine.errors import FieldError, RunError, SpecError
from engine.files import outside, read_regular
from engine.permissions import Permissions, passwords
from engine.plugins import Plugins
from engine.problems import Translator

VERSION = 1
RESOLVED = "resolved.yaml"
_LONGEST_NAME = 100


class Prepare(Config):
    """Turns sources into token shards, a tokenizer and held-out documents."""

    sources: tuple[Annotated[Config, Of("data-source")], ...] = Field(
        min_length=1, description="Where the text comes from, each with its weight in the mixture."
    )
    processors: tuple[Annotated[Config, Of("processor")], ...] = Field(
        (), description="Steps that every record passes, in this order."
    )
    tokenizer: Annotated[Config, Of("tokenizer")] = Field(description="The tokenizer.")
    holdout: Share = Field(
        0.01, lt=1, description="Share of the documents that training never sees."
    )

    def source_names(self) -> list[str]:
        """What cards and logs call each source: its type, numbered where there are several."""
        types = [getattr(source, "type", "source") for source in self.sources]
        several = {name for name in types if types.count(name) > 1}
        return [f"{n}-{index}" if n in several else n for index, n in enumerate(types)]


class Ramp(Config):
    """A batch that grows: tokens · factor^⌊t / every⌋ (t counts like ``every``), capped at ``most``."""

    every: Annotated[Interval, units("tokens", "steps")] = Field(description="Interval.")
    factor: Number = Field(2.0, gt=1, description="Growth at each interval.")
    most: Count | None = Field(
        None, description="Largest batch, in tokens; without it, 16 × the first."
    )


class BatchSize(Config):
    """How many tokens one optimizer step takes, and in which pieces."""

    tokens: Count = Field(
        16384, description="Tokens in a global batch, over all ranks: whole rows, as many on each."
    )
    examples: Count | None = Field(
        None,
        description="In place of tokens: rows in a global batch, each an example (a pair, a prompt).",
    )
    sequence: Count | None = Field(
        None,
        description="Tokens in one row; without it, the model's context, of a pretrained model at most "
        "4096 and a batch.",
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
        """Tokens in a global batch, in rows of so many."""
        return self.examples * sequence if self.examples else self.tokens


class Checkpoints(Config):
    """When checkpoints are written and which are kept."""

    every: Interval = Field(Amount(600, "seconds"), description="Interval; one more at the end.")
    keep: Count = Field(2, description="How many of the last are kept; the best-scored as well.")
    background: bool = Field(True, description="Write while training goes on.")


class Train(Config):
    """Trains a model."""

    data: Annotated[Config, Of("data-source", or_stage=True)] = Field(
        description="A prepare stage's name, or a source of records."
    )
    model: Annotated[Config, Of("model")] = Field(description="The model, or a train stage's name.")
    objective: Annotated[Config, Of("objective")] = Field(description="What training minimises.")
    optimizer: Annotated[Config, Of("optimizer")] = Field(description="The optimizer.")
    strategy: Annotated[Config, Of("strategy")] = runtime(
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
        description="Of a source of records: share that training never sees, by the first user turn: a "
        "prompt is on the same side in every stage with the same share, whatever holds it.",
    )
    limit: Count | None = Field(
        None, description="Of a source of records: learn from the first so many examples only."
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
        False, description="Keep activations in main memory, where an accelerator trains."
    )
    compile: Literal["auto"] | bool = runtime(
        "auto",
        description="torch.compile of the layers, in steps whose rows all fill the sequence; auto: "
        "where the data gives such rows and the budget is long enough to repay it.",
    )
    evaluate: tuple[Annotated[Config, Of("evaluator")], ...] = runtime(
        (), description="Scores during training and at its end."
    )
    checkpoint: Checkpoints = runtime(Checkpoints(), description="Checkpoints.")
    check_replicas: Interval | None = runtime(
        None,
        description="How often copies of weights and optimizer state on different ranks are compared,"
        " to find a flipped bit; where there is no copy, one micro-batch is computed twice.",
    )
    callbacks: tuple[Annotated[Config, Of("callback")], ...] = runtime(
        (), description="What watches and steers the training, in this order."
    )

    def row_length(self, model: Any) -> int | None:
        """Tokens in a row of a stage that begins with this model, as far as it can be told."""
        tokens = None if self.batch.examples else self.batch.tokens
        return self.batch.sequence or model.row_length(tokens)


def evaluator_names(evaluators: Sequence[Config]) -> list[str]:
    """What scores call each evaluator of a stage: its name or type, numbered from its second on."""
    names: list[str] = []
    for place, evaluator in enumerate(evaluators):
        called = getattr(evaluator, "name", None) or getattr(evaluator, "type", place)
        numbered = (f"{called}-{number}" for number in count(2))
        names.append(next(name for name in chain([str(called)], numbered) if name not in names))
    return names


class Evaluate(Config):
    """Scores models."""

    models: tuple[Annotated[Config, Of("model")], ...] = Field(
        min_length=1, description="Train stages, or models of any kind."
    )
    data: Annotated[str, StageRef("prepare", "train")] | None = Field(
        None,
        description="Stage whose held-out documents, or records, the evaluators may use.",
    )
    evaluators: tuple[Annotated[Config, Of("evaluator")], ...] = Field(
        min_length=1, description="What is measured."
    )
    baseline: str | None = Field(
        None,
        description="One of the models: how much better each other one is, item by item, is a score "
        "as well, where the evaluator can tell.",
    )

    def model_names(self) -> list[str]:
        """What scores call each model: its name, stage or path, or else its place."""
        names = ("name", "stage", "path")
        return [
            next((str(found) for n in names if (found := getattr(model, n, None))), str(number))
            for number, model in enumerate(self.models)
        ]

    @model_validator(mode="after")
    def _baseline_is_there(self) -> Evaluate:
        names = self.model_names()
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline '{self.baseline}' is none of the models {', '.join(names)}")
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
        """Which of the three it is."""
        return "prepare" if self.prepare else "train" if self.train else "evaluate"

    @property
    def body(self) -> Any:
        """The verb's configuration."""
        return getattr(self, self.verb)


def _slug(allowed: str) -> AfterValidator:
    def check(name: str) -> str:
        if len(name) > _LONGEST_NAME or not re.fullmatch(
            rf"[A-Za-z0-9][A-Za-z0-9_{allowed}-]*", name
        ):
            also = f" and '{allowed}'" if allowed else ""
            raise ValueError(
                f"a name is letters, digits, '-', '_'{also}, at most {_LONGEST_NAME}, "
                "as it becomes a folder"
            )
        return name

    return AfterValidator(check)


Name = Annotated[str, _slug(".")]
StageName = Annotated[str, _slug("")]  # no '.', which parts the names in a path


class Spec(Config):
    """A run."""

    engine: Literal[1] = Field(description="Version of the spec's language.")
    name: Name = Field(description="Name of the run and of its folder.")
    seed: int = Field(0, ge=0, lt=2**63, strict=True, description="Seed of everything random.")
    plugins: tuple[str, ...] = Field((), description="Third-party plugins that this spec may use.")
    stages: dict[StageName, Stage] = Field(
        min_length=1, max_length=1000, description="Stages by name."
    )

    def dependencies(self, stage: str) -> list[str]:
        """The stages that this one reads, in the order in which it names them."""
        return list(dict.fromkeys(r.stage for r in references(self.stages[stage].body)))

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Stages as the spec has them, but each after those it depends on."""
        return tuple(ordered({name: self.dependencies(name) for name in self.stages}))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid spec with the plugins it uses, and its text as written."""

    spec: Spec
    plugins: Plugins
    text: str
    source: Source = field(default_factory=lambda: Source(None))
    permissions: Permissions = field(default_factory=Permissions)

    def outside(self) -> list[str]:
        """What this spec reads on this machine outside of its own folder, in lines to tell."""
        *extended, own = self.source.files
        configs = every_config((), self.spec)
        named = (name for _, config in configs for name in config.reads())
        return list(outside(own.parent, chain(map(str, extended), named)))

    def resolved(self) -> dict[str, Any]:
        """The spec as plain data, every default in it."""
        return self.spec.model_dump(mode="json", exclude_none=True)

    def told(self, config: Config, error: FieldError) -> SpecError:
        """The error with the line of the spec where the field stands."""
        at = (*(place_of(config, self.spec) or ()), *error.field.split("."))
        what = error.what.removeprefix(f"{error.field}: ")
        return SpecError(*self.source.told([(at, what)]), mend=error.mend)


def spec_class(plugins: Plugins) -> type[Spec]:
    """The spec's model with the configs of these plugins in it."""
    composed: Any = Composer(plugins).compose(Spec)
    return composed  # type: ignore[no-any-return]


def load_spec(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    blocked: Sequence[str] = (),
    processes: int = 1,
    allow: Sequence[str] = (),
) -> Loaded:
    """Reads and checks a spec. Raises SpecError with every problem in it, PluginError."""
    permissions = Permissions.given(allow)
    source = sources.read(path, permissions)
    for assignment in overrides:
        sources.override(source, assignment)
    _refuse_passwords(source)
    problems = list(_version_problems(source))
    installed = Plugins.discover(blocked)
    names = _named_plugins(source.data)
    unusable = {name: wrong for name in names if (wrong := installed.problem(name))}
    problems += [(("plugins", names.index(name)), wrong) for name, wrong in unusable.items()]
    plugins = installed.selected([name for name in names if name not in unusable])
    model = spec_class(plugins)
    spec = None
    try:
        spec = model.model_validate({**source.data, "engine": VERSION})
    except ValidationError as error:
        problems += Translator(model, plugins, installed).translate(error)
    problems += inconsistencies(model, spec, source.data, plugins, processes, permissions)
    if problems or spec is None:
        raise SpecError(*source.told(problems))
    return Loaded(spec, plugins, read_regular(path).decode("utf-8"), source, permissions)


def _refuse_passwords(source: Source) -> None:
    """Before anything else, since other errors would repeat it."""
    what = "an address with a password in it: secrets come from environment variables"
    found = [(at, what) for at in passwords(source.data)]
    if found:
        raise SpecError(*source.told(found))


def _named_plugins(data: Mapping[str, Any]) -> list[str]:
    named = data.get("plugins")
    return [n for n in named if isinstance(n, str)] if isinstance(named, list) else []


def _version_problems(source: Source) -> Iterator[tuple[Path_, str]]:
    """Raises SpecError where the rest is written in another version's language."""
    version = source.data.get("engine")
    if version is None:
        yield ("engine",), f"missing; add `engine: {VERSION}`, the version of the spec's language"
        return
    if version == VERSION and not isinstance(version, bool):
        return
    if not isinstance(version, int) or isinstance(version, bool):
        yield ("engine",), f"{version!r} is no version; write `engine: {VERSION}`"
        return
    mend = f"write `engine: {VERSION}`; CHANGELOG.md says under 'Spec' what changed since"
    if version > VERSION:
        mend = "it was written for a newer engine: pip install -U training-engine"
    what = f"this engine reads specs of version {VERSION}, not {version}; {mend}"
    raise SpecError(*source.told([(("engine",), what)]))


def resolved_yaml(loaded: Loaded) -> str:
    """resolved.yaml's text."""
    return yaml.safe_dump(loaded.resolved(), sort_keys=False, allow_unicode=True)


def load_resolved(file: Path, allow: Sequence[str] = ()) -> Loaded:
    """What a run's resolved.yaml says. Raises RunError where it cannot be read any more.

    What was not allowed is refused when it is built.
    """
    mend = "run its spec again: what is done stays done"
    permissions = Permissions.given(allow)
    try:
        text = read_regular(file).decode("utf-8")
        data = yaml.safe_load(text)
        plugins = Plugins.discover().selected(data["plugins"])
        spec = spec_class(plugins).model_validate(data)
        return Loaded(spec, plugins, text, permissions=permissions)
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise RunError(f"{file}: cannot be read ({why})", mend=mend) from error
