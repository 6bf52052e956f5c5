"""State shared by the stages of a run, and the context of one stage's factories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from engine.contracts.component import Kind, Precision
from engine.contracts.config import Config
from engine.contracts.language_model import Inference, LanguageModel
from engine.contracts.records import Record
from engine.contracts.scoring import BenchmarkTexts
from engine.contracts.spec import Prepare
from engine.data.corpus.filtered_records import filtered_rows
from engine.data.corpus.former_processor import FormerProcessor
from engine.data.corpus.steps import NamedProcessor
from engine.data.corpus.store import key_of
from engine.data.former_source import FormerSource
from engine.data.holdout import is_held_out
from engine.data.holdout_file import held_out
from engine.data.records import NamedSource, Rows
from engine.errors import FieldError, RunError
from engine.event_log import EventLog
from engine.files.matching import each_once, expanded, matches, version_of
from engine.processes.process import Process
from engine.runs.components import code_of, of_kind, package_of
from engine.runs.contamination.benchmarks import benchmark_texts, told
from engine.runs.failures import Built, noted
from engine.runs.recipe import Recipe
from engine.spec.architectures import register_named
from engine.spec.identity import identity_fields
from engine.spec.loading import Loaded, LoadedSituation
from engine.storage.model_folder import Artifact
from engine.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")


class RunContext:
    """State shared by the stages of a run: its spec, folder, process and log; builds components."""

    def __init__(
        self,
        loaded: Loaded,
        folder: RunFolder,
        process: Process,
        log: EventLog,
        *,
        inexact: bool = False,
    ) -> None:
        self.spec = loaded.spec
        self.inexact = inexact
        self.folder = folder
        self.process = process
        self.log = log
        self.loaded = loaded
        self._last_held_out: tuple[str, list[Record]] = ("", [])
        """A stage and its records, cached because every evaluator of every model asks for them."""
        self._inference: tuple[str, Inference] | None = None
        """A stage and its inference component, built once because it may start slowly."""
        self.built: list[Built] = []
        """Components, for messages about errors in them."""
        self.said: set[tuple[str, str, str]] = set()
        """Messages of components, each logged once: a source is read again for its held-out records."""

    def build(self, kind: Kind, config: Config, context: StageContext) -> Any:
        """Builds a component from its configuration. Raises SpecError for a wrong field."""
        if kind == "model":
            register_named(self.loaded.plugins)
        found = self.loaded.found(kind, config)
        for field, what in self.loaded.permissions.refusals(config.needs()):
            raise self.loaded.told(config, FieldError(field, what))
        try:
            built = noted(self.built, kind, found, config, context)
        except FieldError as error:
            raise self.loaded.told(config, error) from error
        return of_kind(kind, config, built, found)

    def key(self, kind: Kind, config: Config) -> str:
        """Names what a component is: its settings, and its plugin's version and code."""
        found = self.loaded.found(kind, config)
        code = code_of(package_of(found.component.factory))
        made_by = f"{found.plugin.distribution} {found.plugin.version} {code}"
        return key_of(kind, identity_fields(config), made_by)

    def inference(self, context: StageContext) -> Inference:
        """A stage's inference component, built on first use. Raises RunError in a prepare stage."""
        stage = context.stage
        if self._inference is None or self._inference[0] != stage:
            body = self.spec.stages[stage].body
            if isinstance(body, Prepare):
                raise RunError(f"{stage}: a prepare stage has no `inference` to run a model with")
            self._inference = (stage, self.build("inference", body.inference, context))
        return self._inference[1]

    def context(
        self, stage: str, tokenizer: Any = None, precision: Precision = "fp32"
    ) -> StageContext:
        """The context for factories of this stage."""
        return StageContext(self, stage, self.spec.seed_of(stage), tokenizer, precision)

    def data_stage(self, stage: str) -> str | None:
        """The prepare stage whose documents a train stage uses, or None."""
        train = self.spec.stages[stage].train
        return train.data.prepare_stage() if train else None

    def held_out(self, stage: str) -> list[Record]:
        """The records that a stage's data holds out."""
        if self._last_held_out[0] != stage:
            self._last_held_out = (stage, list(self._held_out(stage)))
        return self._last_held_out[1]

    def _held_out(self, stage: str) -> Iterator[Record]:
        train = self.spec.stages[stage].train
        prepared = self.data_stage(stage) if train else stage
        if prepared:
            return iter(held_out(self.folder.path / prepared))
        assert train is not None
        given = self.context(stage).stage_rows()
        return (r for r in given if is_held_out(r, train.holdout, self.spec.seed))

    def decide(self, stage: str, name: str, choose: Callable[[], Any]) -> Any:
        """The value of ``auto`` for a stage's ``name``, plain data, chosen and recorded once by rank 0,
        so that the stage keeps it wherever it is resumed; collective."""

        def recorded() -> Any:
            standing = self.folder.standing(stage)
            assert standing is not None, "a stage that has begun has a record"
            if name not in standing.choices:
                choices = {**standing.choices, name: choose()}
                standing = replace(standing, choices=choices)
                self.folder.record(stage, standing)
            return standing.choices[name]

        return self.process.first_alone(recorded)


@dataclass(frozen=True, slots=True)
class StageContext:
    """The :class:`engine.Context` of one stage."""

    run: RunContext
    stage: str
    seed: int
    opened_tokenizer: Any = None
    precision: Precision = "fp32"
    """Precision of training's matrix products."""
    benchmarks: Sequence[BenchmarkTexts] | None = None
    """What a processor gets that searches for benchmarks."""

    @property
    def rank(self) -> int:
        """Rank of this process."""
        return self.run.process.rank

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.run.process.world_size

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self.run.process.device

    def artifact(self, stage: str) -> Artifact:
        """See :class:`engine.Context`."""
        return Artifact(self.run.folder.path / stage / "final", self.run.loaded.plugins)

    def tokenizer(self) -> Any:
        """See :class:`engine.Context`."""
        assert self.opened_tokenizer is not None, "this stage has no tokenizer"
        return self.opened_tokenizer

    def component(self, kind: Kind, config: Config) -> Any:
        """See :class:`engine.Context`."""
        return self.run.build(kind, config, self)

    def configs(self, kind: Kind) -> Mapping[str, type[Config]]:
        """See :class:`engine.Context`."""
        return self.situation().configs(kind)

    def situation(self) -> LoadedSituation:
        """See :class:`engine.Context`."""
        process = self.run.process
        return self.run.loaded.situation(process.world_size, process.local_world_size)

    def first(self, find: Callable[[], T]) -> T:
        """See :class:`engine.Context`."""
        found: T = self.run.process.first_alone(find)
        return found

    def gather(self, value: T) -> list[T]:
        """See :class:`engine.Context`."""
        return self.run.process.all_gather(value)

    def records(self, source: Config) -> Iterator[Record]:
        """See :class:`engine.Context`."""
        return iter(Rows(self.named(getattr(source, "type", ""), source)))

    def stage_rows(self, *, settle: bool = False) -> Rows:
        """The records of a train stage that has a source of its own, without those that its processors
        drop, with counts: whatever reads a stage's records gets these. Raises RunError.

        ``settle``: which are dropped stays as it is found now until the stage is started over; for one
        process, when the stage begins.
        """
        train = self.run.spec.stages[self.stage].train
        assert train is not None
        named = self.named(train.data.type_name, train.data)
        if not train.processors:
            return Rows(named)
        return filtered_rows(
            self.run.folder.path / self.stage / "records",
            named,
            lambda: self.processors(train.processors)[0],
            self.run.log.display.progress,
            settle=settle,
        )

    def named(self, name: str, source: Any) -> NamedSource:
        """Builds a data source, with the name by which the log calls it."""
        built = self.run.build("data-source", source, self)
        return NamedSource(
            name,
            built,
            source.bad,
            self.run.key("data-source", source),
            source.priority,
            None if isinstance(built, FormerSource) else self.recipe("data-source", source),
            self.say,
        )

    def processors(
        self, configs: Sequence[Config]
    ) -> tuple[list[NamedProcessor], list[BenchmarkTexts] | None]:
        """Builds processors and steps, and gives the benchmarks that these search for; None where none
        searches. Raises EngineError."""
        searched = any(config.searches_benchmarks for config in configs)
        asked = benchmark_texts(self.run) if searched else None
        return [self._processor(config, asked or []) for config in configs], asked

    def _processor(self, config: Config, asked: Sequence[BenchmarkTexts]) -> NamedProcessor:
        read = [path for pattern in config.reads() for path in matches(expanded(pattern))]
        key, context = key_of(self.run.key("processor", config), version_of(each_once(read))), self
        if config.searches_benchmarks:
            context = replace(self, benchmarks=asked)
            key = key_of(key, told(asked))
        built = self.run.build("processor", config, context)
        alone = isinstance(built, FormerProcessor)  # it remembers documents
        make = None if alone else context.recipe("processor", config)
        return NamedProcessor(getattr(config, "type", ""), key, built, make)

    def recipe(self, kind: Kind, config: Config) -> Recipe:
        """Makes a component of this stage in another process."""
        plugins = self.run.loaded.plugins.plugins
        return Recipe(
            kind,
            config.model_dump(mode="json", exclude_none=True),
            self.stage,
            self.seed,
            tuple(p.name for p in plugins if p.status == "ok" and not p.builtin),
            tuple(p.name for p in plugins if p.status == "blocked"),
        )

    def allows(self, word: str) -> bool:
        """See :class:`engine.Context`."""
        return self.run.loaded.permissions.allows(word)

    def say(self, event: str, message: str, **fields: Any) -> None:
        """See :class:`engine.Context`."""
        said = (self.stage, event, message)
        if said not in self.run.said:
            self.run.said.add(said)
            text = {"message": message} if message else {}
            self.run.log.emit(event, stage=self.stage, **text, **fields)

    def held_out(self) -> Iterator[Record]:
        """See :class:`engine.Context`. Raises RunError if there are none."""
        spec = self.run.spec
        asks = spec.stages[self.stage].evaluate
        data = asks.data if asks else self.stage
        if data is None:
            raise RunError(
                f"{self.stage}: an evaluator needs held-out documents, but no stage with data is named",
                hint="name one in the stage's `data`",
            )
        records = self.run.held_out(data)
        if not records:
            raise RunError(f"{data}: nothing was held out", hint="raise its `holdout`")
        return iter(records)

    def benchmark_texts(self) -> Sequence[BenchmarkTexts]:
        """See :class:`engine.Context`. Raises RunError for a component that does not say it needs
        them, since results that are kept of it would not depend on them."""
        if self.benchmarks is None:
            raise RunError(
                f"{self.stage}: a component asks for benchmarks' texts, but is no processor whose "
                "config says so",
                hint="set `searches_benchmarks: ClassVar = True` in the processor's config",
            )
        return self.benchmarks

    def language_model(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        context: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> LanguageModel:
        """See :class:`engine.Context`. Raises RunError in a prepare stage."""
        inference = self.run.inference(self)
        return inference(model, tokenizer, context=context, progress=progress)
