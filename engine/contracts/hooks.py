"""All hooks, and checks of what plugins make of them. Component hooks declare components; observer
hooks never change a result.

What declares is called in every process, whenever plugins are looked for, and builds nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from engine.contracts.component import Architecture, Component, Kind
from engine.errors import nearest

if TYPE_CHECKING:
    import click

    from engine.contracts.context import Problem, Situation
    from engine.contracts.spec import Spec

hookspec = pluggy.HookspecMarker("engine")
hookimpl = pluggy.HookimplMarker("engine")
"""Marks a function of a plugin as the implementation of the hook of its name."""
ENTRY_POINTS = "engine.v1"
T = TypeVar("T", Component, Architecture)
_TYPE = re.compile(r"\w[\w.-]*", re.ASCII)
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")

HOOK_OF_KIND: Mapping[Kind, str] = {
    "data-source": "engine_data_sources",
    "corpus-step": "engine_corpus_steps",
    "processor": "engine_processors",
    "executor": "engine_executors",
    "tokenizer": "engine_tokenizers",
    "model": "engine_models",
    "adapter": "engine_adapters",
    "strategy": "engine_strategies",
    "optimizer": "engine_optimizers",
    "schedule": "engine_schedules",
    "objective": "engine_objectives",
    "penalty": "engine_penalties",
    "reward": "engine_rewards",
    "evaluator": "engine_evaluators",
    "callback": "engine_callbacks",
    "inference": "engine_inference",
}

AMONG: Mapping[Kind, Kind] = {"corpus-step": "processor"}
"""Kinds whose components stand in a spec among those of another kind, and share their names."""


@hookspec
def engine_data_sources() -> Sequence[Component]:  # type: ignore[empty-body]
    """Data sources; the factory returns a ``DataSource``."""


@hookspec
def engine_processors() -> Sequence[Component]:  # type: ignore[empty-body]
    """Maps over documents, which annotate, change or drop them; the factory returns a ``Processor``."""


@hookspec
def engine_corpus_steps() -> Sequence[Component]:  # type: ignore[empty-body]
    """Steps that see a whole corpus; they stand among the processors of a spec. The factory returns a
    ``CorpusStep``, which works on a ``Corpus``."""


@hookspec
def engine_executors() -> Sequence[Component]:  # type: ignore[empty-body]
    """Where a corpus is prepared; the factory returns an ``Executor``."""


@hookspec
def engine_tokenizers() -> Sequence[Component]:  # type: ignore[empty-body]
    """Tokenizers, trained or loaded; the factory returns a ``TokenizerTrainer``."""


@hookspec
def engine_models() -> Sequence[Component]:  # type: ignore[empty-body]
    """Models; the factory returns a ``PreTrainedModel`` of transformers or a declared architecture, the
    same on every rank: before it ``torch.manual_seed`` is called with the spec's seed."""


@hookspec
def engine_architectures() -> Sequence[Architecture]:  # type: ignore[empty-body]
    """Model classes that transformers does not have, so that what was trained opens again."""


@hookspec
def engine_adapters() -> Sequence[Component]:  # type: ignore[empty-body]
    """Trainable additions to a frozen model; the factory returns an ``Adapter``."""


@hookspec
def engine_strategies() -> Sequence[Component]:  # type: ignore[empty-body]
    """Parallel strategies; the factory returns a ``Strategy``."""


@hookspec
def engine_optimizers() -> Sequence[Component]:  # type: ignore[empty-body]
    """Optimizers; the factory returns an ``Optimizers``, called with the named parameters."""


@hookspec
def engine_schedules() -> Sequence[Component]:  # type: ignore[empty-body]
    """Learning-rate schedules; the factory returns a ``Schedule``, a function from a ``Progress`` to
    the factor on the peak rate."""


@hookspec
def engine_objectives() -> Sequence[Component]:  # type: ignore[empty-body]
    """Training objectives; the factory returns an ``Objective``, or an ``ExternalLoop`` for a library
    whose loop cannot be taken apart."""


@hookspec
def engine_penalties() -> Sequence[Component]:  # type: ignore[empty-body]
    """Terms of the loss beside any objective; the factory returns a ``Penalty``."""


@hookspec
def engine_rewards() -> Sequence[Component]:  # type: ignore[empty-body]
    """Rewards, which score answers; the factory returns a ``Reward``."""


@hookspec
def engine_evaluators() -> Sequence[Component]:  # type: ignore[empty-body]
    """Benchmarks and other evaluators; the factory returns an ``Evaluator``."""


@hookspec
def engine_callbacks() -> Sequence[Component]:  # type: ignore[empty-body]
    """Callbacks, which monitor and steer training if a spec names them; the factory returns a
    ``Callback``."""


@hookspec
def engine_inference() -> Sequence[Component]:  # type: ignore[empty-body]
    """Inference components, which compute log-likelihoods, values and texts of a model; the factory
    returns an ``Inference``, a function from a model and its tokenizer to a ``LanguageModel``."""


@hookspec
def engine_commands() -> Sequence[click.Command]:  # type: ignore[empty-body]
    """Additional commands, which appear as ``engine PLUGIN COMMAND``; a built-in plugin's commands and
    groups appear at the top level, under their own names."""


@hookspec
def engine_permissions() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Additional words for ``--allow``, each with what it allows."""


@hookspec
def engine_check(spec: Spec, situation: Situation) -> Sequence[Problem]:  # type: ignore[empty-body]
    """Problems that would make a run fail, found before it starts: in the process of the command line
    with ``--nproc``, in every process under another launcher."""


@hookspec
def engine_out_of_memory(spec: Spec, stage: str, situation: Situation) -> str:  # type: ignore[empty-body]
    """Explanation of why a stage ran out of memory: a clause for the error message. Called on the ranks
    on which it did."""


@hookspec
def engine_expectation(spec: Spec, stage: str, situation: Situation) -> Mapping[str, float]:  # type: ignore[empty-body]
    """Figures of what a train stage is expected to need, by name, for the log's event ``plan``, so that
    a report can compare them with the outcome. Called on rank 0 as the stage begins, not as it is
    resumed; an error in it is logged, and the run goes on."""


@hookspec
def engine_run_started(folder: str, spec: Mapping[str, Any]) -> None:
    """A run starts or resumes; ``folder`` is the run's, ``spec`` the resolved spec as plain data. Rank
    0 only."""


@hookspec
def engine_stage_started(stage: str, verb: str) -> None:
    """A stage starts or resumes; ``verb`` is ``prepare``, ``train`` or ``evaluate``. Not called for
    stages that are already done. Rank 0 only."""


@hookspec
def engine_step_finished(event: Mapping[str, Any]) -> None:
    """A training step is done; ``event`` is its line of events.jsonl, whose fields
    ``Callback.step_finished`` lists. Rank 0 only."""


@hookspec
def engine_checkpoint_saved(stage: str, step: int, folder: str) -> None:
    """A checkpoint is complete on disk, in ``folder``. Rank 0 only."""


@hookspec
def engine_stage_finished(stage: str, verb: str, folder: str) -> None:
    """A stage is done; ``folder`` is the stage's. Rank 0 only."""


@hookspec
def engine_run_finished(folder: str, status: str) -> None:
    """The run ends; ``folder`` is the run's, ``status`` is ``done``, ``failed`` or ``stopped``. Rank 0
    only."""


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows these hooks, and no plugin yet."""
    manager = pluggy.PluginManager("engine")
    manager.add_hookspecs(sys.modules[__name__])
    return manager


def manager_of(plugin: object, name: str) -> pluggy.PluginManager:
    """A pluggy manager with one plugin. Raises PluginValidationError for hooks and arguments that do
    not exist, with the nearest that do."""
    manager, unchecked = new_manager(), pluggy.PluginManager("engine")
    unchecked.register(plugin, name)
    for caller in unchecked.get_hookcallers(plugin) or ():
        hook = getattr(manager.hook, caller.name, None)
        if hook is None:
            known = (hook for hook in vars(manager.hook) if hook.startswith("engine_"))
            message = f"unknown hook '{caller.name}'{nearest(caller.name, known)}"
            raise pluggy.PluginValidationError(plugin, message)
        names = hook.spec.argnames
        for argument in caller.get_hookimpls()[0].argnames:
            if argument not in names:
                message = f"{caller.name}({', '.join(names)}) has no argument '{argument}'"
                raise pluggy.PluginValidationError(plugin, message + nearest(argument, names))
    manager.register(plugin, name)
    return manager


def declared(manager: pluggy.PluginManager, hook: str, record: type[T]) -> tuple[T, ...]:
    """The records that a plugin's hook declares. Raises TypeError, ValueError."""
    found = tuple(one for result in getattr(manager.hook, hook)() for one in result)
    types = set()
    for one in found:
        if not isinstance(one, record):
            raise TypeError(f"{hook} returned {one!r}, which is not a {record.__name__}")
        name = one.type if isinstance(one, Component) else one.model_type
        if not (isinstance(name, str) and _TYPE.fullmatch(name)):
            raise ValueError(
                f"{hook} returned the type {name!r}; types have letters, digits, -, _ and ."
            )
        if name in types:
            raise ValueError(f"{hook} returned the type '{name}' twice")
        types.add(name)
    return found


def declared_commands(manager: pluggy.PluginManager) -> dict[str, click.Command]:
    """A plugin's commands by name. Raises TypeError."""
    import click

    commands = [c for result in manager.hook.engine_commands() for c in result]
    for command in commands:
        if not isinstance(command, click.Command):
            raise TypeError(f"engine_commands returned {command!r}, which is not a click.Command")
    return {str(command.name): command for command in commands}


def declared_permissions(manager: pluggy.PluginManager) -> dict[str, str]:
    """A plugin's words for ``--allow``. Raises ValueError."""
    words = {w: does for result in manager.hook.engine_permissions() for w, does in result.items()}
    for word in words:
        if not _WORD.fullmatch(word):
            raise ValueError(
                f"engine_permissions returned {word!r}; words have lower-case letters and -"
            )
    return words
