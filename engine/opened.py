"""Opens a stage of a run that exists, for the commands that look into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.artifact import Artifact
from engine.errors import SpecError
from engine.folder import RunFolder
from engine.launch import Process
from engine.log import EventLog, SilentDisplay
from engine.problems import nearest
from engine.run import Run
from engine.spec import RESOLVED, Stage, load_resolved


@dataclass(frozen=True, slots=True)
class OpenedStage:
    """``RUN/STAGE`` with its run."""

    run: Run
    name: str

    @classmethod
    def open(cls, path: Path) -> OpenedStage:
        """Raises SpecError where there is no such stage, RunError where its run is damaged."""
        if not (path.parent / RESOLVED).is_file():
            stages = f"{path}/STAGE" if (path / RESOLVED).is_file() else "runs/quickstart/base"
            raise SpecError(f"{path}: no stage of a run; name one as in {stages}")
        loaded = load_resolved(path.parent / RESOLVED)
        stages = loaded.spec.stages
        if path.name not in stages:
            there = ", ".join(stages)
            raise SpecError(f"{path}: no such stage{nearest(path.name, stages)}; stages: {there}")
        log = EventLog(None, SilentDisplay())
        return cls(Run(loaded, RunFolder(path.parent), Process(), log), path.name)

    @property
    def stage(self) -> Stage:
        """Its configuration."""
        return self.run.spec.stages[self.name]

    def train(self) -> Any:
        """Its configuration as a train stage. Raises SpecError for another verb."""
        if self.stage.train is None:
            raise SpecError(f"{self.name}: a {self.stage.verb} stage, not a train stage")
        return self.stage.train

    def artifact(self) -> Artifact:
        """Its finished model. Raises SpecError where there is none yet."""
        self.train()
        folder = self.run.folder.path / self.name / "final"
        if not folder.is_dir():
            raise SpecError(f"{folder}: not there yet; `engine run` the spec to the end first")
        return Artifact(folder)
