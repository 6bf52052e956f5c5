"""Opens a stage of an existing run, for commands that inspect it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contracts.batch import Example
from engine.contracts.language_model import LanguageModel
from engine.contracts.objective import Objective
from engine.contracts.spec import Train
from engine.errors import RunError, SpecError, nearest
from engine.event_log import EventLog, SilentDisplay
from engine.files.regular import check_folder
from engine.processes.process import Process
from engine.runs.context import RunContext
from engine.spec.loading import RESOLVED, load_resolved
from engine.storage import manifest
from engine.storage.model_folder import Artifact
from engine.storage.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Examples of a train stage, with their objective and tokenizer."""

    examples: Sequence[Example]
    objective: Objective
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class OpenedStage:
    """A stage of a run; its ``path`` is ``RUN/STAGE``."""

    run: RunContext
    name: str

    @property
    def path(self) -> Path:
        """The stage's folder."""
        return self.run.folder.path / self.name

    @property
    def run_name(self) -> str:
        """The name of the run, from its spec."""
        return self.run.spec.name

    def resolved(self) -> str:
        """The run's spec as YAML, with all defaults."""
        return (self.run.folder.path / RESOLVED).read_text(encoding="utf-8")

    def artifact(self) -> Artifact:
        """Its finished model. Raises SpecError for a stage that does not train, RunError if there is no
        model yet."""
        self._train()
        folder = self.path / "final"
        if not folder.is_dir():
            raise RunError(f"{folder}: does not exist yet", hint="`engine run` its spec first")
        if not (folder / manifest.NAME).is_file():
            raise RunError(
                f"{folder}: no manifest, so it is not whole", hint="`engine run` its spec"
            )
        return Artifact(folder, self.run.loaded.plugins)

    def language_model(self) -> LanguageModel:
        """Its finished model, ready for requests. Raises SpecError if it does not write text, and as
        :meth:`artifact`."""
        artifact = self.artifact()
        model = artifact.model()
        if not hasattr(model, "generate"):
            raise SpecError(f"{self.path}: its model does not write text")
        return self.run.context(self.name).language_model(model, artifact.tokenizer())

    def summary(self) -> Mapping[str, Any]:
        """Figures of the finished stage, e.g. ``parameters``, ``tokens``, ``steps`` and ``scores`` of a
        train stage. Raises RunError if it is not done."""
        return self._summary(self.name)

    def data_summary(self) -> Mapping[str, Any] | None:
        """The data card, with ``sources``, of the prepare stage that it reads; None for a stage with a
        source of its own. Raises RunError if the prepare stage is not done."""
        data = self.run.data_stage(self.name)
        return self._summary(data) if data else None

    def training_rows(self, start: int, count: int) -> TrainingRows:
        """``count`` examples in training's order from number ``start`` on. Raises SpecError for a stage
        that does not train, RunError if there are fewer or a stage that it reads is not done."""
        from engine.runs.train_inputs import open_tokenizer, stage_data

        for stage in self.run.spec.dependencies(self.name):
            self._summary(stage)
        train = self._train()
        tokenizer = open_tokenizer(self.run, self.name, train)
        data, objective = stage_data(self.run, self.name, train, tokenizer)
        examples, _ = data.take(start, count, (), 0, 1)
        return TrainingRows(examples, objective, tokenizer)

    def _train(self) -> Train:
        stage = self.run.spec.stages[self.name]
        if stage.train is None:
            trained = ", ".join(n for n, s in self.run.spec.stages.items() if s.train) or "none"
            raise SpecError(f"{self.path}: a {stage.verb} stage; train stages here: {trained}")
        return stage.train

    def _summary(self, stage: str) -> Mapping[str, Any]:
        standing = self.run.folder.standing(stage)
        if standing is None or standing.status != "done":
            raise RunError(
                f"{self.run.folder.path / stage}: is not done", hint="`engine run` its spec first"
            )
        return standing.summary


def open_stage(path: Path, allow: Sequence[str] = ()) -> OpenedStage:
    """Opens ``RUN/STAGE``; ``allow`` holds the words of ``--allow`` for its spec.

    Raises SpecError if there is no such stage, RunError if its run is damaged.
    """
    if not (path.parent / RESOLVED).is_file():
        such = f"{path}/STAGE" if (path / RESOLVED).is_file() else "runs/quickstart/base"
        raise SpecError(f"{path}: not a stage of a run; name one as in {such}")
    check_folder(path.parent)
    loaded = load_resolved(path.parent / RESOLVED, allow)
    stages = loaded.spec.order
    if path.name not in stages:
        there = ", ".join(stages)
        raise SpecError(f"{path}: no such stage{nearest(path.name, stages)}; stages: {there}")
    log = EventLog(None, SilentDisplay())
    return OpenedStage(RunContext(loaded, RunFolder(path.parent), Process(), log), path.name)
