"""The run spec: its models, loading, and every check that needs no tensor.

Nothing here imports torch or transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from engine import source as sources
from engine.compose import Composer
from engine.config import Amount, Config, Count, Number, Of, Share, StageRef, runtime, units
from engine.errors import SpecError
from engine.plugins import Plugins
from engine.problems import Problems

VERSION = 1


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


class Ramp(Config):
    """A batch that grows: tokens · factor^⌊t / every⌋ (t counts like ``every``), capped at ``most``."""

    every: Annotated[Amount, units("tokens", "steps")] = Field(description="Interval.")
    factor: Number = Field(2.0, gt=1, description="Growth at each interval.")
    most: Count | None = Field(
        None, description="Largest batch, in tokens; without it, 16 × the first."
    )


class BatchSize(Config):
    """How many tokens one optimizer step takes, and in which pieces."""

    tokens: Count = Field(16384, description="Tokens in a global batch, over all ranks.")
    sequence: Count | None = Field(
        None, description="Tokens in one row; without it, the model's context."
    )
    micro_tokens: Count | None = runtime(
        None, description="Tokens in one forward pass on one rank; without it, at most 8192."
    )
    ramp: Ramp | None = Field(None, description="Growth of the batch.")


class Checkpoints(Config):
    """When checkpoints are written and which are kept."""

    every: Amount = Field(Amount(600, "seconds"), description="Interval; one more at the end.")
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
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "bf16", description="Precision of the matrix products; master weights stay fp32."
    )
    batch: BatchSize = Field(BatchSize(), description="Size of the batch.")
    budget: Amount = runtime(Amount(1, "epochs"), description="How long to train.")
    clip: Number | None = Field(1.0, gt=0, description="Largest global norm of the gradient.")
    freeze: tuple[str, ...] = Field((), description="Globs of parameters that are not trained.")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Decay of an average of the weights, which is what is scored and exported.",
    )
    activation_checkpointing: bool = runtime(
        False, description="Recompute activations in the backward pass, to save memory."
    )
    compile: Literal["auto"] | bool = runtime(
        "auto", description="torch.compile; auto: where the budget is long enough to repay it."
    )
    evaluate: tuple[Annotated[Config, Of("evaluator")], ...] = runtime(
        (), description="Scores during training and at its end."
    )
    checkpoint: Checkpoints = runtime(Checkpoints(), description="Checkpoints.")
    callbacks: tuple[Annotated[Config, Of("callback")], ...] = runtime(
        (), description="What watches and steers the training, in this order."
    )


class Evaluate(Config):
    """Scores models."""

    models: tuple[Annotated[Config, Of("model")], ...] = Field(
        min_length=1, description="Train stages, or models of any kind."
    )
    data: Annotated[str, StageRef("prepare")] | None = Field(
        None, description="Prepare stage whose held-out documents the evaluators may use."
    )
    evaluators: tuple[Annotated[Config, Of("evaluator")], ...] = Field(
        min_length=1, description="What is measured."
    )


class Stage(Config):
    """One stage: exactly one of the three verbs."""

    prepare: Prepare | None = None
    train: Train | None = None
    evaluate: Evaluate | None = None

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


def _slug(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise ValueError("a name is letters, digits, '-', '_' and '.', as it becomes a folder")
    return text


Name = Annotated[str, AfterValidator(_slug)]


class Spec(Config):
    """A run."""

    engine: Literal[1] = Field(description="Version of the spec's language.")
    name: Name = Field(description="Name of the run and of its folder.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random.")
    plugins: tuple[str, ...] = Field((), description="Third-party plugins that this spec may use.")
    stages: dict[Name, Stage] = Field(min_length=1, description="Stages by name.")

    def dependencies(self, stage: str) -> list[str]:
        """The stages that this one reads, in the order in which it names them."""
        return list(dict.fromkeys(name for _, _, name in references(self.stages[stage].body)))

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Stages, each after those it depends on. Raises SpecError for a circle."""
        done: dict[str, None] = {}

        def visit(name: str, above: tuple[str, ...]) -> None:
            if name in above:
                raise SpecError(f"stages depend on each other: {' → '.join((*above, name))}")
            for dependency in self.dependencies(name):
                if dependency in self.stages and dependency not in done:
                    visit(dependency, (*above, name))
            done[name] = None

        for name in self.stages:
            if name not in done:
                visit(name, ())
        return tuple(done)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid spec with the plugins it uses, and its text as written."""

    spec: Spec
    plugins: Plugins
    text: str

    def resolved(self) -> dict[str, Any]:
        """The spec as plain data, every default in it."""
        return self.spec.model_dump(mode="json", exclude_none=True)


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
) -> Loaded:
    """Reads and checks a spec. Raises SpecError with every problem in it, PluginError."""
    source = sources.read(path)
    for assignment in overrides:
        sources.override(source, assignment)
    _check_version(source)
    installed = Plugins.discover(blocked)
    wanted = source.data.get("plugins")
    names = [n for n in wanted if isinstance(n, str)] if isinstance(wanted, list) else []
    plugins = installed.selected(names)
    model = spec_class(plugins)
    problems = Problems(source, model, plugins, installed)
    try:
        spec = model.model_validate(source.data)
    except ValidationError as error:
        raise SpecError(*problems.translate(error)) from None
    for at, message in _inconsistencies(spec, plugins, processes):
        problems.add(at, message)
    if problems.found:
        raise SpecError(*problems.found)
    return Loaded(spec, plugins, path.read_text(encoding="utf-8"))


def references(config: BaseModel) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Every (path, verb, stage name) in a configuration."""
    for name, info in type(config).model_fields.items():
        value = getattr(config, name)
        ref = next((m for m in info.metadata if isinstance(m, StageRef)), None)
        if ref is None and isinstance(value, str):
            ref = _optional_ref(info.annotation)
        if ref is not None and isinstance(value, str):
            yield (name,), ref.verb, value
        items = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for index, item in items:
            if isinstance(item, BaseModel):
                for path, verb, stage in references(item):
                    yield (name, *(() if index is None else (index,)), *path), verb, stage


def _optional_ref(annotation: Any) -> StageRef | None:
    """The StageRef in ``Annotated[str, StageRef(...)] | None``."""
    for argument in getattr(annotation, "__args__", ()):
        for item in getattr(argument, "__metadata__", ()):
            if isinstance(item, StageRef):
                return item
    return None


def _check_version(source: sources.Source) -> None:
    version = source.data.get("engine")
    if version == VERSION and not isinstance(version, bool):
        return
    mark = source.mark(("engine",))
    if version is None:
        raise SpecError(f"{mark}: engine: missing; add `engine: {VERSION}`, the spec's version")
    if isinstance(version, int) and version > VERSION:
        mend = "it was written for a newer engine: pip install -U training-engine"
    else:
        mend = f"write `engine: {VERSION}`; CHANGELOG.md says under 'Spec' what changed since"
    raise SpecError(
        f"{mark}: engine: this engine reads specs of version {VERSION}, not {version!r}; {mend}"
    )


_At = tuple[str | int, ...]


def _inconsistencies(spec: Spec, plugins: Plugins, processes: int) -> Iterator[tuple[_At, str]]:
    """What pydantic cannot see: references, and parts that do not fit together."""
    for name, stage in spec.stages.items():
        at: _At = ("stages", name, stage.verb)
        for path, verb, target in references(stage.body):
            if target not in spec.stages:
                have = ", ".join(n for n, s in spec.stages.items() if s.verb == verb) or "none"
                yield (*at, *path), f"no stage '{target}'; {verb} stages here: {have}"
            elif spec.stages[target].verb != verb:
                yield (*at, *path), f"'{target}' is a {spec.stages[target].verb} stage, not {verb}"
        if stage.train:
            yield from ((at + p, m) for p, m in _train_problems(spec, stage.train, processes))
        if stage.evaluate:
            for index, evaluator in enumerate(stage.evaluate.evaluators):
                if getattr(evaluator, "every", None) is not None:
                    yield (*at, "evaluators", index, "every"), "only counts inside a train stage"
        for path, found in _components(stage.body, plugins):
            missing = found.missing_requirements()
            if missing:
                yield (
                    (*at, *path),
                    f"'{found.component.type}' needs {', '.join(missing)}: {found.install_command()}",
                )
    try:
        _ = spec.order
    except SpecError as error:
        yield ("stages",), error.what


def _train_problems(spec: Spec, train: Any, processes: int) -> Iterator[tuple[_At, str]]:
    gives = train.data.gives()
    takes: frozenset[str] = train.objective.takes
    if gives not in takes:
        yield (
            ("objective", "type"),
            f"'{train.objective.type}' takes {' or '.join(sorted(takes))} records, "
            f"but the data gives {gives}",
        )
    if not train.optimizer.elementwise and not train.strategy.whole_matrices:
        yield (
            ("optimizer", "type"),
            f"'{train.optimizer.type}' works on whole matrices, which strategy "
            f"'{train.strategy.type}' splits; use an elementwise optimizer such as adamw",
        )
    wrong = train.strategy.check_processes(processes)
    if wrong:
        yield ("strategy",), wrong
    context = train.model.context_length()
    sequence = train.batch.sequence
    if context and sequence and sequence > context:
        yield ("batch", "sequence"), f"{sequence} is longer than the model's context of {context}"
    length = sequence or context
    if length and train.batch.tokens < length:
        yield ("batch", "tokens"), f"{train.batch.tokens} is less than one row of {length} tokens"
    if length and train.batch.micro_tokens and train.batch.micro_tokens < length:
        yield (
            ("batch", "micro_tokens"),
            f"{train.batch.micro_tokens} is less than one row of {length} tokens",
        )
    if train.budget.unit == "share" or train.budget.value <= 0:
        yield ("budget",), f"'{train.budget}' is no budget; use tokens, steps, epochs or time"


def _components(config: BaseModel, plugins: Plugins) -> Iterator[tuple[_At, Any]]:
    """Every component in a configuration with the plugin's record of it."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        items = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for index, item in items:
            if not isinstance(item, BaseModel):
                continue
            path = (name,) if index is None else (name, index)
            found = plugins.declaring(item)
            if found:
                yield path, found
            for inner, found in _components(item, plugins):
                yield (*path, *inner), found


def resolved_yaml(loaded: Loaded) -> str:
    """resolved.yaml's text."""
    return yaml.safe_dump(loaded.resolved(), sort_keys=False, allow_unicode=True)


def load_resolved(data: Mapping[str, Any], plugins: Plugins) -> Spec:
    """A spec from resolved.yaml's data, which was checked when it was written."""
    return spec_class(plugins).model_validate(data)
