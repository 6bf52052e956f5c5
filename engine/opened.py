"""Opens a stage of a run that exists, for the commands that look into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.artifact import Artifact
from engine.errors import SpecError
from engine.folder import RunFolder
from engine.launch import Process
from engine.log import EventLog, SilentDisplay
from engine.plugins import Plugins
from engine.run import Run
from engine.spec import Loaded, Stage, load_resolved


@dataclass(frozen=True, slots=True)
class OpenedStage:
    """``RUN/STAGE`` with its run."""

    run: Run
    name: str

    @classmethod
    def open(cls, path: Path) -> OpenedStage:
        """Raises SpecError where there is no such stage, PluginError for a plugin that is gone."""
        resolved = path.parent / "resolved.yaml"
        if not resolved.is_file():
            raise SpecError(f"{path}: no stage of a run; name it as in runs/quickstart/base")
        data = yaml.safe_load(resolved.read_text(encoding="utf-8"))
        plugins = Plugins.discover().selected(data.get("plugins", ()))
        spec = load_resolved(data, plugins)
        if path.name not in spec.stages:
            raise SpecError(f"{path}: no such stage; there are: {', '.join(spec.stages)}")
        loaded = Loaded(spec, plugins, "")
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
