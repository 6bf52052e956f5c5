"""Runs a spec: its stages in order, each done once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from engine.contracts.spec import Evaluate, Prepare, Train
from engine.errors import RunError
from engine.hardware.precision import AUTO
from engine.runs.components import used_plugins
from engine.runs.contamination.warnings import warn_of_answers, warn_of_benchmarks
from engine.runs.context import RunContext
from engine.runs.lineage import unequal
from engine.runs.observers import Observers
from engine.runs.prepare_stage import prepare_stage
from engine.spec.identity import changes, identity
from engine.storage import run_folder as folders
from engine.storage.stage_record import Standing, changed_versions


class Run(RunContext):
    """One run of one spec in one folder."""

    @cached_property
    def _observers(self) -> Observers:
        return Observers(self.loaded.plugins, self.log, self.process)

    def execute(self, *, only: str | None = None, rerun: Collection[str] = ()) -> str:
        """Runs what is missing; returns ``done``, or ``stopped`` after a signal. Raises RunError."""
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

    def _check_identities(self, names: Collection[str]) -> None:
        """Raises RunError if a stage was begun with other settings, before anything is written."""
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
                "\n".join(
                    f"{name}: differs from the stage that was begun: {'; '.join(found[name])}"
                    for name in changed
                ),
                hint=f"start over with {' '.join(f'--rerun {name}' for name in changed)}, or give the "
                "run another name",
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
        plugins = used_plugins(self.spec, name, self.loaded.plugins)
        if standing is not None:
            self._check_inputs(name, standing, inputs)
            changed = changed_versions(standing.plugins, plugins)
            if standing.status == "done" and not self._wants_more(name, standing):
                self.log.emit("stage_skipped", stage=name, **_made_by(name, changed))
                if isinstance(stage.body, Prepare):
                    body = stage.body
                    self.process.first_alone(lambda: warn_of_benchmarks(self, name, body))
                return "done"
            if changed:
                self._check_kept(name, changed)
        asked = identity(self.spec, name)
        begun = Standing(asked, "begun", inputs, {}, _choices(standing, asked), plugins)
        if self.process.rank == 0:
            self.folder.record(name, begun)
        self.log.emit("stage_started", stage=name, verb=stage.verb)
        self._observers.tell("engine_stage_started", stage=name, verb=stage.verb)
        if stage.train and (standing is None or standing.status == "done"):
            self._log_expectations(name)
        started = time.time()
        status, summary = self._do(name, stage.body)
        self._collect_records()
        if status == "done":
            summary = {**summary, "seconds": round(time.time() - started, 1)}
            if self.process.rank == 0:
                now = self.folder.standing(name) or begun  # a prepare stage replaces its folder
                self.folder.record(name, replace(now, status="done", summary=summary))
            self.log.emit("stage_finished", stage=name, verb=stage.verb, **summary)
            self._observers.tell(
                "engine_stage_finished", stage=name, verb=stage.verb, folder=str(path)
            )
        self.process.barrier()
        return status

    def _do(self, name: str, body: Prepare | Train | Evaluate) -> tuple[str, dict[str, Any]]:
        if isinstance(body, Prepare):
            return prepare_stage(self, name, body)
        if isinstance(body, Train):
            return self._train(name, body)
        return self._evaluate(name, body)

    def _inputs(self, name: str) -> dict[str, str]:
        """The checksums of the present manifests of a stage's inputs, by stage."""
        inputs = {}
        for other in self.spec.dependencies(name):
            standing = self.folder.standing(other)
            if standing is None or standing.status != "done":
                raise RunError(
                    f"{name}: needs stage '{other}', which is not done", hint=f"run {other} first"
                )
            inputs[other] = str(standing.summary.get("fingerprint", ""))
            self._check_made(other, inputs[other])
        return inputs

    def _check_made(self, name: str, fingerprint: str) -> None:
        """Raises RunError if a stage's manifest is not the one that the stage wrote: listed files may
        have been replaced together with it."""
        part = "final" if self.spec.stages[name].train else ""
        manifest = self.folder.path / name / part / "manifest.json"
        if fingerprint and self.process.rank == 0 and folders.fingerprint(manifest) != fingerprint:
            raise RunError(
                f"{manifest}: has changed since stage '{name}' wrote it",
                hint=f"make it again with --rerun {name}",
            )

    def _check_inputs(self, name: str, standing: Standing, inputs: Mapping[str, str]) -> None:
        for other, fingerprint in inputs.items():
            if standing.inputs.get(other) != fingerprint:
                raise RunError(
                    f"{name}: its input '{other}' has changed since it began",
                    hint=f"start over with --rerun {name}, or give the run another name",
                )

    def _check_kept(self, name: str, changed: tuple[str, str]) -> None:
        """Raises RunError if rows of an evaluation would be mixed with those of other plugins, unless
        the user has allowed that. Records that a training chose before its first checkpoint are
        chosen anew; later, the checkpoint has the versions."""
        path, (was, now) = self.folder.path / name, changed
        if (path / "rows").is_dir() and not self.inexact:
            raise RunError(
                f"{name}: its first rows were written with {was}, but {now} is installed",
                hint=f"install the same versions, start over with --rerun {name}, or resume with "
                "`--allow versions`: the scores will be of rows of both",
            )
        if self.process.rank == 0 and not any(path.glob("checkpoints/step-*")):
            shutil.rmtree(path / "records", ignore_errors=True)

    def _log_expectations(self, name: str) -> None:
        """Logs what plugins expect a train stage to need."""
        process = self.process
        situation = self.loaded.situation(process.world_size, process.local_world_size, [name])
        asked = {"spec": self.spec, "stage": name, "situation": situation}
        for figures in self._observers.ask("engine_expectation", **asked):
            if figures:
                self.log.emit("plan", stage=name, expected=figures)

    def _wants_more(self, name: str, standing: Standing) -> bool:
        """Whether a finished train stage now has another budget."""
        body = self.spec.stages[name].body
        return isinstance(body, Train) and standing.summary.get("budget") != str(body.budget)

    def _train(self, name: str, config: Train) -> tuple[str, dict[str, Any]]:
        from engine.runs.failures import memory_errors_explained
        from engine.runs.train_stage import train

        if config.processors:  # the other ranks read what rank 0 finds
            self.process.first_alone(lambda: self.context(name).stage_rows(settle=True).places())
        if self.process.rank == 0:
            warn_of_answers(self, name, config)
        with memory_errors_explained(self.loaded, name, config, self.process):
            return train(self, name, config, self._observers.tell)

    def _evaluate(self, name: str, config: Evaluate) -> tuple[str, dict[str, Any]]:
        from engine.runs.evaluate_stage import score_models

        scores = score_models(self, name, config)
        return "done", {"scores": [asdict(s) for s in scores], "models": config.model_names()}

    def _collect_records(self) -> None:
        """Adds the other ranks' events to rank 0's log."""
        for rank, records in enumerate(self.process.gather(self.log.pending())):
            if rank:
                self.log.adopt(records, rank)


def _made_by(name: str, changed: tuple[str, str] | None) -> dict[str, str]:
    """What to say of a stage that is done, if it was made by other versions of plugins."""
    if changed is None:
        return {}
    was, now = changed
    return {"message": f"made by {was}, while {now} is installed; make it anew with --rerun {name}"}


def _choices(standing: Standing | None, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Choices recorded for a stage; for a field that has become ``auto`` since, its former value."""
    if standing is None:
        return {}
    former = standing.identity
    automatic = [name for name, value in asked.items() if value == AUTO]
    kept = {name: former[name] for name in automatic if former.get(name) not in (None, AUTO)}
    return {**kept, **standing.choices}
