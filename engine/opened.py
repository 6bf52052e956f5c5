"""Opens a stage of a run that exists, for the commands that look into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.artifact import Artifact
from engine.errors import RunError, SpecError
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
    def open(cls, path: Path, allow: Sequence[str] = ()) -> OpenedStage:
        """Raises SpecError where there is no such stage, RunError where its run is damaged."""
        if not (path.parent / RESOLVED).is_file():
            such = f"{path}/STAGE" if (path / RESOLVED).is_file() else "runs/quickstart/base"
            raise SpecError(f"{path}: no stage of a run; name one as in {such}")
        loaded = load_resolved(path.parent / RESOLVED, allow)
        stages = loaded.spec.order
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
            trained = ", ".join(n for n, s in self.run.spec.stages.items() if s.train) or "none"
            path = self.run.folder.path / self.name
            raise SpecError(f"{path}: a {self.stage.verb} stage; train stages here: {trained}")
        return self.stage.train

    def artifact(self) -> Artifact:
        """Its finished model. Raises RunError where there is none yet."""
        self.train()
        folder = self.run.folder.path / self.name / "final"
        if not folder.is_dir():
            raise RunError(f"{folder}: is not there yet", mend="`engine run` its spec first")
        return Artifact(folder)

    def summary(self, stage: str) -> Mapping[str, Any]:
        """What a stage of this run says of itself. Raises RunError where it is not done."""
        standing = self.run.folder.standing(stage)
        if standing is None or standing.status != "done":
            raise RunError(
                f"{self.run.folder.path / stage}: is not done", mend="`engine run` its spec first"
            )
        return standing.summary
