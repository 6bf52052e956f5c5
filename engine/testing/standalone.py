"""Builds components outside a run, and runs small specs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from engine.contracts.component import Kind, Precision
from engine.contracts.config import Config
from engine.contracts.hooks import HOOK_OF_KIND
from engine.contracts.records import Record, Text
from engine.contracts.scoring import BenchmarkTexts
from engine.data.records import LIMIT, NamedSource, Rows
from engine.errors import PluginError
from engine.event_log import EventLog, SilentDisplay
from engine.processes.process import Process
from engine.registry import Plugins
from engine.runs.components import of_kind
from engine.runs.run import Run
from engine.spec.architectures import register_architectures
from engine.spec.composition import Composer
from engine.spec.loading import load_spec
from engine.storage.model_folder import Artifact
from engine.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from engine.contracts.language_model import Inference, LanguageModel

T = TypeVar("T")
_SENTENCE = "the cat sat on a mat and saw one small grey mouse that ran under two old chairs"
_WORDS = _SENTENCE.split()


def _document(number: int) -> str:
    places = (number * k * k + k for k in range(1, 36 + number % 7))
    return f"{number}: {' '.join(_WORDS[place % len(_WORDS)] for place in places)}.\n"


DOCUMENTS = tuple(map(_document, range(40)))
"""Short texts, all different."""

ROWS: Sequence[Mapping[str, Any]] = tuple(
    {"id": f"row-{row}", "answer": str(row), "tests": f"assert add(1, {row}) == {row + 1}"}
    for row in range(5)
)
"""Further columns of prompt records, with which rewards check answers."""

TINY_MODEL: Mapping[str, Any] = {
    "type": "llama",
    "hidden_size": 16,
    "layers": 2,
    "heads": 2,
    "context": 48,
}
TINY_OBJECTIVE: Mapping[str, Any] = {"type": "next-token"}
TINY_OPTIMIZER: Mapping[str, Any] = {"type": "adamw", "lr": 1e-2}
"""Settings of built-in components to use together with the one that is checked."""


@dataclass(frozen=True)
class StandAloneContext:
    """A :class:`engine.Context` without a run: a byte tokenizer, one process, the CPU.

    ``documents`` are the held-out texts; ``rows`` the further columns of prompt records, which rewards
    read; ``folders`` the finished models of train stages; ``said`` the messages of :meth:`say`.
    """

    documents: Sequence[str] = field(default_factory=lambda: DOCUMENTS)
    rows: Sequence[Mapping[str, Any]] = field(default_factory=lambda: ROWS)
    folders: Mapping[str, Path] = field(default_factory=dict)
    rank: int = 0
    world_size: int = 1
    seed: int = 0
    stage: str = ""
    precision: Precision = "fp32"
    said: list[str] = field(default_factory=list)
    allowed: Sequence[str] = ()
    """Words of ``--allow``."""
    benchmarks: Sequence[BenchmarkTexts] = ()
    """What :meth:`benchmark_texts` gives."""
    model: Mapping[str, Any] = field(default_factory=lambda: dict(TINY_MODEL))
    """Settings of the model of :func:`tiny_model`."""

    def config(self, kind: Kind, settings: Mapping[str, Any]) -> Config:
        """A component's configuration from settings as in a spec: ``{"type": …, …}``.

        Raises PluginError for an unknown kind or type, pydantic's ValidationError for wrong fields.
        """
        if kind not in HOOK_OF_KIND:
            raise PluginError(f"no kind '{kind}'; there are: {', '.join(HOOK_OF_KIND)}")
        types = self._plugins.of_kind(kind)
        if settings.get("type") not in types:
            raise PluginError(
                f"no {kind} '{settings.get('type')}' is installed; there are: {', '.join(types)}"
            )
        return self._composer.config_class(kind, settings["type"]).model_validate(settings)

    def build(self, kind: Kind, settings: Mapping[str, Any]) -> Any:
        """Builds a component from settings as in a spec.

        Raises as :meth:`config`, and PluginError if its class does not subclass the base of its kind.
        """
        return self.component(kind, self.config(kind, settings))

    @property
    def device(self) -> torch.device:
        """See :class:`engine.Context`."""
        import torch

        return torch.device("cpu")

    def artifact(self, stage: str) -> Artifact:
        """See :class:`engine.Context`."""
        return Artifact(self.folders[stage], self._plugins)

    def tokenizer(self) -> Any:
        """See :class:`engine.Context`."""
        return self._tokenizer

    def component(self, kind: Kind, config: Config) -> Any:
        """See :class:`engine.Context`."""
        if kind == "model":
            register_architectures()
        found = self._plugins.of_kind(kind)[getattr(config, "type", "")]
        return of_kind(kind, config, found.load_factory()(config, self), found)

    def configs(self, kind: Kind) -> Mapping[str, type[Config]]:
        """See :class:`engine.Context`."""
        return self._composer.installed(kind)

    def situation(self) -> None:
        """See :class:`engine.Context`."""
        return

    def first(self, find: Callable[[], T]) -> T:
        """See :class:`engine.Context`."""
        return find()

    def gather(self, value: T) -> list[T]:
        """See :class:`engine.Context`."""
        return [value]

    def records(self, source: Config) -> Iterator[Record]:
        """See :class:`engine.Context`."""
        limit = getattr(source, "bad", LIMIT)
        return iter(Rows(NamedSource("kit", self.component("data-source", source), limit)))

    def allows(self, word: str) -> bool:
        """See :class:`engine.Context`."""
        return word in self.allowed

    def say(self, event: str, message: str, **fields: Any) -> None:
        """See :class:`engine.Context`. Keeps the message in ``said``."""
        self.said.append(message)

    def held_out(self) -> Iterator[Record]:
        """See :class:`engine.Context`."""
        for number, text in enumerate(self.documents):
            yield Text(id=f"document-{number}", source="documents", text=text)

    def benchmark_texts(self) -> Sequence[BenchmarkTexts]:
        """See :class:`engine.Context`."""
        return self.benchmarks

    def language_model(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        context: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> LanguageModel:
        """See :class:`engine.Context`. Uses the default inference component."""
        return self._inference(model, tokenizer, context=context, progress=progress)

    @cached_property
    def _plugins(self) -> Plugins:
        return Plugins.discover()

    @cached_property
    def _composer(self) -> Composer:
        return Composer(self._plugins)

    @cached_property
    def _inference(self) -> Inference:
        found = self._plugins.default_of("inference")
        assert found is not None, "the engine brings an inference component"
        inference: Inference = self.build("inference", {"type": found.component.type})
        return inference

    @cached_property
    def _tokenizer(self) -> Any:
        return self.build("tokenizer", {"type": "bytes"})(self.documents)


def tiny_model(context: StandAloneContext) -> Any:
    """A small language model with fixed weights, in training mode: the context's ``model``."""
    import torch

    torch.manual_seed(0)
    return context.build("model", context.model)


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
    """Runs a spec in this process as ``engine run SPEC --runs RUNS`` does, but prints nothing.

    ``overrides`` are those of ``--set``: ``"stages.base.train.budget=4 steps"``. Where a launcher's
    variables (RANK, WORLD_SIZE …) are set, this process is one rank. Raises the errors that the command
    would report.
    """
    process = Process.from_environment()
    loaded = load_spec(spec, overrides=overrides, processes=process.world_size)
    folder = RunFolder(runs / loaded.spec.name)
    process.join()
    with contextlib.ExitStack() as stack:
        stack.callback(process.leave)
        process.first_alone(lambda: stack.enter_context(folder.locked()))
        file = folder.path / "events.jsonl" if process.rank == 0 else None
        log = EventLog(file, SilentDisplay())
        stack.callback(log.close)
        Run(loaded, folder, process, log).execute()
    lines = (folder.path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return FinishedRun(folder.path, [json.loads(line) for line in lines])


def train_tiny(
    folder: Path,
    *,
    plugins: Collection[str] = (),
    prepare: Mapping[str, Any] | None = None,
    **train: Any,
) -> FinishedRun:
    """Trains a small model with these plugins, in about two seconds.

    ``prepare`` sets fields of the stage ``corpus``, further arguments those of the stage ``base``:
    ``train_tiny(tmp_path, plugins=["lion"], optimizer={"type": "lion"})``. The spec is saved in
    ``folder`` as spec.yaml. Raises as :func:`run_spec`.
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
