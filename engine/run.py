"""Runs a spec: its stages in order, each done once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from engine import folder as folders
from engine.artifact import Artifact
from engine.component import Kind
from engine.config import Config
from engine.data.holdout import Answered, is_held_out
from engine.data.prepare import held_out, prepare, trained_texts
from engine.data.records import Record
from engine.data.rows import LIMIT, NamedSource, Rows
from engine.errors import FieldError, RunError
from engine.folder import RunFolder
from engine.identity import changes, identity
from engine.launch import Process
from engine.lineage import corpora, heeded_as, holding_out, unequal
from engine.log import EventLog
from engine.observers import Observers
from engine.precision import AUTO
from engine.products import Precision
from engine.spec import Evaluate, Loaded, Prepare, Train
from engine.standing import Standing

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class StageContext:
    """The :class:`engine.Context` of one stage."""

    run: Run
    stage: str
    seed: int
    opened_tokenizer: Any = None
    precision: Precision = "fp32"
    """Of the matrix products of training."""

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
        """Where tensors go."""
        return self.run.process.device

    def artifact(self, stage: str) -> Artifact:
        """See :class:`engine.Context`."""
        return Artifact(self.run.folder.path / stage / "final")

    def tokenizer(self) -> Any:
        """See :class:`engine.Context`."""
        assert self.opened_tokenizer is not None, "this stage has no tokenizer"
        return self.opened_tokenizer

    def component(self, kind: Kind, config: Config) -> Any:
        """See :class:`engine.Context`."""
        return self.run.build(kind, config, self)

    def records(self, source: Config) -> Iterator[Record]:
        """See :class:`engine.Context`."""
        return iter(self.rows(source))

    def rows(self, source: Any) -> Rows:
        """The records of a data source, with a count of its bad rows."""
        return Rows(self.named(source.type, source))

    def named(self, name: str, source: Any) -> NamedSource:
        """A data source, built."""
        limit = getattr(source, "bad", LIMIT)
        return NamedSource(name, self.run.build("data-source", source, self), limit)

    def allows(self, word: str) -> bool:
        """See :class:`engine.Context`."""
        return self.run.loaded.permissions.allows(word)

    def say(self, event: str, message: str, **fields: Any) -> None:
        """See :class:`engine.Context`."""
        said = (self.stage, event, message)
        if said not in self.run.said:
            self.run.said.add(said)
            self.run.log.emit(event, stage=self.stage, message=message, **fields)

    def held_out(self) -> Iterator[Record]:
        """See :class:`engine.Context`. Raises RunError where there are none."""
        spec = self.run.spec
        asks = spec.stages[self.stage].evaluate
        data = asks.data if asks else self.stage
        if data is None:
            raise RunError(
                f"{self.stage}: an evaluator needs held-out documents, but no stage with data is named",
                mend="name one in the stage's `data`",
            )
        records = self.run.held_out(data)
        if not records:
            raise RunError(f"{data}: nothing was held out", mend="raise its `holdout`")
        return iter(records)


class Run:
    """One run of one spec in one folder."""

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
        self._observers = Observers(loaded.plugins, log, process)
        self._last_held_out: tuple[str, list[Record]] = ("", [])
        """A stage and its records: every evaluator asks for them, of every model."""
        self.said: set[tuple[str, str, str]] = set()
        """What components said, once: a source is read again for what it holds out."""

    def execute(self, *, only: str | None = None, rerun: Collection[str] = ()) -> str:
        """Runs what is missing: ``done``, or ``stopped`` by a signal. Raises RunError."""
        stages = (only,) if only else self.spec.order
        self._check_identities([name for name in stages if name not in rerun])
        for message in unequal(self.spec) if self.process.rank == 0 else ():
            self.log.warn(message)
        if self.process.rank == 0:
            for message in self.loaded.outside():
                self.log.emit("reads", message=message)
            self.folder.describe(self.loaded, self.process.world_size)
        self._observers.tell(
            "engine_run_started", folder=str(self.folder.path), spec=self.loaded.resolved()
        )
        status = "failed"
        try:
            status = self._stages(stages, rerun)
        except KeyboardInterrupt:
            status = "stopped"
            raise
        finally:
            self._observers.tell("engine_run_finished", folder=str(self.folder.path), status=status)
        return status

    def build(self, kind: Kind, config: Config, context: StageContext) -> Any:
        """A component from its configuration. Raises SpecError where a field of it is wrong."""
        found = self.loaded.plugins.of_kind(kind)[getattr(config, "type", "")]
        for field, what in self.loaded.permissions.refusals(config.needs()):
            raise self.loaded.told(config, FieldError(field, what))
        try:
            return found.load_factory()(config, context)
        except FieldError as error:
            raise self.loaded.told(config, error) from error

    def context(
        self, stage: str, tokenizer: Any = None, precision: Precision = "fp32"
    ) -> StageContext:
        """What factories of this stage may know."""
        return StageContext(self, stage, self.spec.seed, tokenizer, precision)

    def data_stage(self, stage: str) -> str | None:
        """The prepare stage whose documents a train stage uses."""
        body = self.spec.stages[stage].body
        name: str | None = getattr(body.data, "stage", None) if isinstance(body, Train) else None
        return name

    def held_out(self, stage: str) -> list[Record]:
        """What a stage's data holds out."""
        if self._last_held_out[0] != stage:
            self._last_held_out = (stage, list(self._held_out(stage)))
        return self._last_held_out[1]

    def _held_out(self, stage: str) -> Iterator[Record]:
        train = self.spec.stages[stage].train
        prepared = self.data_stage(stage) if train else stage
        if prepared:
            return iter(held_out(self.folder.path / prepared))
        assert train is not None
        given = self.context(stage).records(train.data)
        return (r for r in given if is_held_out(r, train.holdout, self.spec.seed))

    def decide(self, stage: str, name: str, choose: Callable[[], Any]) -> Any:
        """What ``auto`` means for a stage's ``name``: rank 0's choice, made once and then recorded, so
        that a stage goes on with it wherever it is resumed. Plain data; collective."""

        def recorded() -> Any:
            standing = self.folder.standing(stage)
            assert standing is not None, "a stage that has begun has a record"
            if name not in standing.choices:
                choices = {**standing.choices, name: choose()}
                standing = replace(standing, choices=choices)
                self.folder.record(stage, standing)
            return standing.choices[name]

        return self.process.first_alone(recorded)

    def _check_identities(self, names: Collection[str]) -> None:
        """Raises RunError if a stage was begun as another one: before anything is written."""
        recorded = {}
        for name in self.spec.order:
            try:
                standing = self.folder.standing(name)
            except RunError:
                if name in names:
                    raise
                continue
            if standing is not None:
                recorded[name] = standing.identity
        found = changes(self.spec, recorded)
        changed = {name: found[name] for name in self.spec.order if name in found and name in names}
        if changed:
            raise RunError(
                "\n".join(f"{n}: is not what it was: {'; '.join(c)}" for n, c in changed.items()),
                mend=f"{' '.join(f'--rerun {name}' for name in changed)} starts anew; "
                "or give the run another name",
            )

    def _stages(self, names: Collection[str], rerun: Collection[str]) -> str:
        for name in names:
            if self._stage(name, fresh=name in rerun) == "stopped":
                return "stopped"
        return "done"

    def _stage(self, name: str, *, fresh: bool) -> str:
        stage, path = self.spec.stages[name], self.folder.path / name
        inputs = self._inputs(name)
        if fresh and self.process.rank == 0:
            shutil.rmtree(path, ignore_errors=True)
        self.process.barrier()
        standing = self.folder.standing(name)
        if standing is not None:
            self._check_inputs(name, standing, inputs)
            if standing.status == "done" and not self._wants_more(name, standing):
                self.log.emit("stage_skipped", stage=name)
                return "done"
        its = identity(self.spec, name)
        begun = Standing(its, "begun", inputs, {}, _choices(standing, its))
        if self.process.rank == 0:
            self.folder.record(name, begun)
        self.log.emit("stage_started", stage=name, verb=stage.verb)
        self._observers.tell("engine_stage_started", stage=name, verb=stage.verb)
        started = time.time()
        status, summary = self._do(name, stage.body)
        self._collect_records()
        if status == "done":
            summary = {**summary, "seconds": round(time.time() - started, 1)}
            if self.process.rank == 0:
                now = self.folder.standing(name) or begun  # data comes as a new folder
                self.folder.record(name, replace(now, status="done", summary=summary))
            self.log.emit("stage_finished", stage=name, verb=stage.verb, **summary)
            self._observers.tell("engine_stage_finished", stage=name, verb=stage.verb)
        self.process.barrier()
        return status

    def _do(self, name: str, body: Prepare | Train | Evaluate) -> tuple[str, dict[str, Any]]:
        if isinstance(body, Prepare):
            return self._prepare(name, body)
        if isinstance(body, Train):
            return self._train(name, body)
        return self._evaluate(name, body)

    def _inputs(self, name: str) -> dict[str, str]:
        """What a stage is made from, as it is now: the checksum of each input's manifest."""
        inputs = {}
        for other in self.spec.dependencies(name):
            standing = self.folder.standing(other)
            if standing is None or standing.status != "done":
                raise RunError(
                    f"{name}: needs stage '{other}', which is not done", mend=f"run {other} first"
                )
            inputs[other] = str(standing.summary.get("fingerprint", ""))
            self._check_made(other, inputs[other])
        return inputs

    def _check_made(self, name: str, fingerprint: str) -> None:
        """Raises RunError where a stage's manifest is not the one that the stage wrote: what is listed
        may have been written anew together with it."""
        part = "final" if self.spec.stages[name].train else ""
        manifest = self.folder.path / name / part / "manifest.json"
        if fingerprint and self.process.rank == 0 and folders.fingerprint(manifest) != fingerprint:
            raise RunError(
                f"{manifest}: is not as stage '{name}' wrote it",
                mend=f"--rerun {name} makes it anew",
            )

    def _check_inputs(self, name: str, standing: Standing, inputs: Mapping[str, str]) -> None:
        for other, fingerprint in inputs.items():
            if standing.inputs.get(other) != fingerprint:
                raise RunError(
                    f"{name}: its input '{other}' has changed since",
                    mend=f"--rerun {name} starts it anew; or give the run another name",
                )

    def _wants_more(self, name: str, standing: Standing) -> bool:
        """Whether a done train stage now has a larger budget."""
        body = self.spec.stages[name].body
        return isinstance(body, Train) and standing.summary.get("budget") != str(body.budget)

    def _prepare(self, name: str, config: Prepare) -> tuple[str, dict[str, Any]]:
        """Rank 0 prepares; the others wait and read what it wrote."""
        context = self.context(name)

        def elsewhere() -> dict[str, list[Record]]:
            held = (self.held_out(stage) for stage in holding_out(self.spec, name))
            return {heeded_as(records): records for records in held}

        card: dict[str, Any] = self.process.first_alone(
            lambda: prepare(
                self.folder.path / name,
                sources=[
                    context.named(label, source)
                    for label, source in zip(config.source_names(), config.sources, strict=True)
                ],
                processors=[self.build("processor", p, context) for p in config.processors],
                trainer=self.build("tokenizer", config.tokenizer, context),
                holdout=config.holdout,
                seed=self.spec.seed,
                progress=self.log.display.progress,
                elsewhere=elsewhere(),
            )
        )
        for source in card["sources"]:
            self.log.emit("documents", stage=name, **source)
        manifest = self.folder.path / name / "manifest.json"
        return "done", {**card, "fingerprint": folders.fingerprint(manifest)}

    def _train(self, name: str, config: Train) -> tuple[str, dict[str, Any]]:
        from engine.memory_error import memory_errors_explained
        from engine.training import train

        if self.process.rank == 0:
            self._warn_of_answers(name, config)
        with memory_errors_explained(self.loaded, name, config, self.process):
            return train(self, name, config, self._observers.tell)

    def _warn_of_answers(self, name: str, config: Train) -> None:
        """Where a corpus of the lineage was prepared without regard to what this stage holds out."""
        if not config.holdout:
            return
        for folder, heeds in corpora(self.folder.path, self.spec, name):
            records = self.held_out(name)
            if heeded_as(records) in heeds:
                continue
            answered = Answered(records)
            count = sum(map(answered.in_text, trained_texts(folder) if len(answered) else ()))
            if count:
                self.log.warn(
                    f"{count:,} texts of {folder} have a prompt that '{name}' holds out, and its "
                    "answer: the model has read them; prepare that corpus anew with --rerun in a spec "
                    "that has this stage, and train from there",
                    stage=name,
                )

    def _evaluate(self, name: str, config: Evaluate) -> tuple[str, dict[str, Any]]:
        from engine.scoring import score_models

        scores = score_models(self, name, config)
        return "done", {"scores": [asdict(s) for s in scores], "models": config.model_names()}

    def _collect_records(self) -> None:
        """Brings the other ranks' records to rank 0's log."""
        for rank, records in enumerate(self.process.gather(self.log.pending())):
            if rank:
                self.log.adopt(records, rank)


def _choices(standing: Standing | None, its: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was chosen for a stage before; where ``auto`` has come since, the value that it had."""
    if standing is None:
        return {}
    was = standing.identity
    written = {
        n: was[n] for n, value in its.items() if value == AUTO and was.get(n) not in (None, AUTO)
    }
    return {**written, **standing.choices}
