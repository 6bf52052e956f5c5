"""Components outside a run, and the smallest run around them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from engine.artifact import Artifact
from engine.component import Kind
from engine.compose import Composer
from engine.config import Config
from engine.data.records import Record, Text
from engine.data.rows import LIMIT, NamedSource, Rows
from engine.errors import PluginError
from engine.folder import RunFolder
from engine.launch import Process
from engine.log import EventLog, SilentDisplay
from engine.plugins import Plugins
from engine.products import Precision
from engine.run import Run
from engine.spec import load_spec

if TYPE_CHECKING:
    import torch

_SENTENCE = "the cat sat on a mat and saw one small grey mouse that ran under two old chairs"
_WORDS = _SENTENCE.split()

DOCUMENTS = tuple(
    f"{i}: {' '.join(_WORDS[(i * k * k + k) % len(_WORDS)] for k in range(1, 36 + i % 7))}.\n"
    for i in range(40)
)
"""Short texts, all different."""

ROWS: Sequence[Mapping[str, Any]] = tuple(
    {"id": f"row-{n}", "answer": str(n), "tests": f"assert add(1, {n}) == {n + 1}"}
    for n in range(5)
)
"""Further columns of prompts' records, by which rewards check answers."""

TINY_MODEL: Mapping[str, Any] = {
    "type": "llama",
    "hidden_size": 16,
    "layers": 2,
    "heads": 2,
    "context": 48,
}
TINY_OBJECTIVE: Mapping[str, Any] = {"type": "next-token"}
TINY_OPTIMIZER: Mapping[str, Any] = {"type": "adamw", "lr": 1e-2}
"""The built-in plugins' own: a kit needs parts that work around the one that it looks at."""


@dataclass(frozen=True)
class StandAloneContext:
    """A :class:`engine.Context` without a run: a byte tokenizer, one process, the CPU.

    ``documents`` are what is held out; ``rows`` the further columns of prompts' records, which rewards
    read; ``folders`` hold the finished models of train stages.
    """

    documents: Sequence[str] = DOCUMENTS
    rows: Sequence[Mapping[str, Any]] = ROWS
    folders: Mapping[str, Path] = field(default_factory=dict)
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    precision: Precision = "fp32"
    said: list[str] = field(default_factory=list)
    allowed: Sequence[str] = ()
    """Words of ``--allow``."""

    def config(self, kind: Kind, settings: Mapping[str, Any]) -> Config:
        """A component's configuration, checked as in a spec: ``{"type": …, …}``.

        Raises PluginError for an unknown type, pydantic's ValidationError for anything else.
        """
        types = self._plugins.of_kind(kind)
        if settings.get("type") not in types:
            raise PluginError(
                f"no {kind} '{settings.get('type')}' is installed; there are: {', '.join(types)}"
            )
        return self._composer.config_class(kind, settings["type"]).model_validate(settings)

    def build(self, kind: Kind, settings: Mapping[str, Any]) -> Any:
        """A component by what a spec says of it."""
        return self.component(kind, self.config(kind, settings))

    @property
    def device(self) -> torch.device:
        """See :class:`engine.Context`."""
        import torch

        return torch.device("cpu")

    def artifact(self, stage: str) -> Artifact:
        """See :class:`engine.Context`."""
        return Artifact(self.folders[stage])

    def tokenizer(self) -> Any:
        """See :class:`engine.Context`."""
        return self._tokenizer

    def component(self, kind: Kind, config: Config) -> Any:
        """See :class:`engine.Context`."""
        found = self._plugins.of_kind(kind)[getattr(config, "type", "")]
        return found.load_factory()(config, self)

    def records(self, source: Config) -> Iterator[Record]:
        """See :class:`engine.Context`."""
        limit = getattr(source, "bad", LIMIT)
        return iter(Rows(NamedSource("kit", self.component("data-source", source), limit)))

    def allows(self, word: str) -> bool:
        """See :class:`engine.Context`."""
        return word in self.allowed

    def say(self, event: str, message: str, **fields: Any) -> None:
        """See :class:`engine.Context`. Kept in ``said``."""
        self.said.append(message)

    def held_out(self) -> Iterator[Record]:
        """See :class:`engine.Context`."""
        for number, text in enumerate(self.documents):
            yield Text(id=f"document-{number}", source="documents", text=text)

    @cached_property
    def _plugins(self) -> Plugins:
        return Plugins.discover()

    @cached_property
    def _composer(self) -> Composer:
        return Composer(self._plugins)

    @cached_property
    def _tokenizer(self) -> Any:
        return self.build("tokenizer", {"type": "bytes"})(self.documents)


def tiny_model(context: StandAloneContext) -> Any:
    """A small language model with fixed weights, as it comes for training."""
    import torch

    torch.manual_seed(0)
    return context.build("model", TINY_MODEL)


def require(condition: object, contract: str) -> None:
    """Raises AssertionError with the part of the contract that is broken."""
    if not condition:
        raise AssertionError(f"broken contract: {contract}")


def require_json(value: Any, what: str) -> Any:
    """The value as JSON brings it back; raises AssertionError where that is another one."""
    try:
        again = json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        again = error
    require(again == value, f"JSON brings back {what}: {value!r} became {again!r}")
    return again


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run's folder and the events in its log."""

    folder: Path
    events: list[dict[str, Any]]

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return [event["loss"] for event in self.events if event["event"] == "step"]

    @property
    def card(self) -> dict[str, Any]:
        """The data card of the stage ``corpus``."""
        text = (self.folder / "corpus" / "card.json").read_text(encoding="utf-8")
        card: dict[str, Any] = json.loads(text)
        return card


def run_spec(spec: Path, runs: Path, *overrides: str) -> FinishedRun:
    """Runs a spec in this process, as ``engine run SPEC --runs RUNS`` does, and silently.

    ``overrides`` are those of ``--set``: ``"stages.base.train.budget=4 steps"``. Raises what the
    command would report.
    """
    loaded = load_spec(spec, overrides=overrides)
    folder = RunFolder(runs / loaded.spec.name)
    with folder.locked():
        log = EventLog(folder.path / "events.jsonl", SilentDisplay())
        try:
            Run(loaded, folder, Process(), log).execute()
        finally:
            log.close()
    lines = (folder.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return FinishedRun(folder.path, [json.loads(line) for line in lines])


def train_tiny(
    folder: Path,
    *,
    plugins: Collection[str] = (),
    prepare: Mapping[str, Any] | None = None,
    **train: Any,
) -> FinishedRun:
    """Trains a small model with these plugins in it, in about two seconds.

    ``prepare`` changes fields of its stage ``corpus``, the other arguments of its stage ``base``:
    ``train_tiny(tmp_path, plugins=["lion"], optimizer={"type": "lion"})``. The spec stays in
    ``folder`` as spec.yaml. Raises what :func:`run_spec` does.
    """
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for number, text in enumerate(DOCUMENTS):
        (texts / f"{number:02d}.txt").write_text(text, encoding="utf-8")
    corpus = {
        "sources": [{"type": "files", "paths": [f"{texts}/*.txt"]}],
        "tokenizer": {"type": "bytes"},
        "holdout": 0.1,
        **(prepare or {}),
    }
    base = {
        "data": "corpus",
        "model": dict(TINY_MODEL),
        "objective": dict(TINY_OBJECTIVE),
        "optimizer": dict(TINY_OPTIMIZER),
        "precision": "fp32",
        "batch": {"tokens": 480},
        "budget": "8 steps",
        **train,
    }
    spec = {
        "engine": 1,
        "name": "tiny",
        "seed": 5,
        "plugins": list(plugins),
        "stages": {"corpus": {"prepare": corpus}, "base": {"train": base}},
    }
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return run_spec(file, folder)
