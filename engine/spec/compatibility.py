"""Checks that no single field can do: references between stages, and parts that must fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from engine.contracts.model_config import ModelConfig
from engine.contracts.references import configs_in, every_config, ordered
from engine.errors import Location, nearest
from engine.registry import Found, Plugins
from engine.spec import stage_checks
from engine.spec.architectures import architectures, unnamed_plugin
from engine.spec.heads import heads_in_evaluation, heads_in_references, heads_in_training
from engine.spec.parsed_stages import Check, ParsedStages, Problems


def inconsistencies(parsed: ParsedStages) -> Problems:
    """The problems between the parts of a spec; of one with errors, between the parts without."""
    for name in parsed.stages:
        for check in _CHECKS:
            for at, message in check(parsed, name):
                yield ("stages", name, *at), message
    yield from _circle(parsed)


def _references(parsed: ParsedStages, name: str) -> Problems:
    """Names of stages that do not exist or have another verb."""
    verbs = parsed.verbs
    for at, wanted, target, _ in parsed.references[name]:
        verb = " or ".join(wanted)
        if target not in verbs:
            have = ", ".join(other for other, v in verbs.items() if v in wanted) or "none"
            message = f"no stage '{target}'{nearest(target, verbs)}; {verb} stages here: {have}"
            yield at, message
        elif verbs[target] not in wanted:
            yield at, f"'{target}' is no {verb} stage but {verbs[target] or 'nothing yet'}"


def _components(parsed: ParsedStages, name: str) -> Problems:
    """What components lack on this machine: packages, files, names, permissions."""
    for at, _, value in parsed.fields[name]:
        yield from _missing_packages(at, value, parsed.plugins)
        yield from _unusable(at, value, parsed)
        yield from _architectures(at, value, parsed.plugins)


def _missing_packages(at: Location, value: Any, plugins: Plugins) -> Problems:
    for inner, found in _declared(at, value, plugins):
        missing = found.missing_requirements()
        if missing:
            needs = f"'{found.component.type}' needs {', '.join(missing)}"
            yield inner, f"{needs}: {found.install_command()}"


def _unusable(at: Location, value: Any, parsed: ParsedStages) -> Problems:
    for inner, config in every_config(at, value):
        # A plugin that is missing may be what declares its architecture.
        unknown = not parsed.whole and isinstance(config, ModelConfig) and config.model_type()
        try:
            problems = {} if unknown else config.problems()
            wrong = [*problems.items(), *parsed.permissions.refusals(config.needs())]
        except Exception as error:  # a plugin's check may raise anything, for files it reads
            yield inner, f"cannot be checked: {type(error).__name__}: {error}"
            continue
        for field, why in wrong:
            yield (*inner, *field.split(".")), why


def _architectures(at: Location, value: Any, plugins: Plugins) -> Problems:
    """Models of architectures of plugins that the spec does not name."""
    used, unnamed = architectures(plugins.plugins), architectures(plugins.unnamed)
    for inner, config in every_config(at, value):
        kind = isinstance(config, ModelConfig) and config.model_type()
        if kind and kind in unnamed and kind not in used:
            yield inner, unnamed_plugin(unnamed[kind])


def _declared(at: Location, value: Any, plugins: Plugins) -> Iterator[tuple[Location, Found]]:
    """Every component in a value with the plugin's record of it."""
    for inner, config in configs_in(at, value):
        found = plugins.declaring(config)
        if found:
            yield inner, found
        for name in type(config).model_fields:
            yield from _declared((*inner, name), getattr(config, name), plugins)


_CHECKS: tuple[Check, ...] = (
    _references,
    heads_in_references,
    _components,
    stage_checks.prepared_sources,
    stage_checks.names_of_models,
    stage_checks.training_records,
    stage_checks.processed_records,
    stage_checks.division_of_work,
    stage_checks.penalties,
    stage_checks.budget,
    stage_checks.trained_model,
    stage_checks.intervals,
    heads_in_training,
    heads_in_evaluation,
)
"""In the order in which problems of one line are told."""


def _circle(parsed: ParsedStages) -> Problems:
    """Stages that depend on each other."""
    dependencies = {name: [r.stage for r in found] for name, found in parsed.references.items()}
    waiting = dependencies.keys() - ordered(dependencies)
    if waiting:
        circle = _path_back(dependencies, waiting)
        yield ("stages", circle[0]), f"stages depend on each other: {' → '.join(circle)}"


def _path_back(dependencies: Mapping[str, Sequence[str]], waiting: Collection[str]) -> list[str]:
    """A path from a stage back to itself, among the stages that all wait for others of them."""
    path: list[str] = []
    name = next(name for name in dependencies if name in waiting)
    while name not in path:
        path.append(name)
        name = next(other for other in dependencies[name] if other in waiting)
    return [*path[path.index(name) :], name]
