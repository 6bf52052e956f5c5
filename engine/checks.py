"""What no field can see by itself: references between stages, and parts that do not fit together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from engine.config import Config, StageRef
from engine.document import Path_
from engine.errors import RunError
from engine.permissions import Permissions
from engine.plugins import Found, Plugins
from engine.problems import models_in, nearest
from engine.shapes import shape_of
from engine.suited import unsuited, wrong_heads

if TYPE_CHECKING:
    from engine.spec import Evaluate, Prepare, Spec, Stage, Train

VERBS = ("prepare", "train", "evaluate")
_Problems = Iterator[tuple[Path_, str]]
_Field = tuple[Path_, FieldInfo, Any]


class Reference(NamedTuple):
    """A field that names a stage with a certain verb, perhaps of a model with a certain head."""

    at: Path_
    verbs: tuple[str, ...]
    stage: str
    head: str | None = None


def references(config: BaseModel) -> Iterator[Reference]:
    """Every stage that a configuration names."""
    for name, info in type(config).model_fields.items():
        yield from _field_references((name,), info, getattr(config, name))


def ordered(dependencies: Mapping[str, Sequence[str]]) -> list[str]:
    """Names as they stand, but each after those it depends on; none that waits for a circle."""
    done: list[str] = []
    waiting = dict.fromkeys(dependencies)
    while True:
        ready = (n for n in waiting if not any(other in waiting for other in dependencies[n]))
        name = next(ready, None)
        if name is None:
            return done
        done.append(name)
        del waiting[name]


def inconsistencies(
    model: type[Spec],
    spec: Spec | None,
    data: Mapping[str, Any],
    plugins: Plugins,
    processes: int,
    permissions: Permissions,
) -> _Problems:
    """Problems of a spec; of a wrong one (``spec`` is None), those of the parts that are right."""
    raws = _stages(data)
    verbs = {name: next((v for v in VERBS if v in raw), "") for name, raw in raws.items()}
    dependencies: dict[str, list[str]] = {}
    stages: dict[str, Stage | None] = {
        name: spec.stages[name] if spec else _valid(_stage_class(model), raw)
        for name, raw in raws.items()
    }
    for name, raw in raws.items():
        stage = stages[name]
        fields = list(_fields(name, stage) if stage else _sound_fields(model, name, raw))
        found = [r for at, info, value in fields for r in _field_references(at, info, value)]
        yield from _wrong_references(found, verbs)
        wanted = ((r.at, r.stage, r.head) for r in found if r.head)
        yield from wrong_heads(name, wanted, stages)
        dependencies[name] = [r.stage for r in found]
        for at, _, value in fields:
            yield from _missing_requirements(at, value, plugins)
            yield from _unusable(at, value, permissions)
        for at, message in (*_stage_problems(stages, name, processes), *unsuited(stages, name)):
            yield ("stages", name, verbs[name], *at), message
    waiting = dependencies.keys() - ordered(dependencies)
    if waiting:
        circle = _circle(dependencies, waiting)
        yield ("stages", circle[0]), f"stages depend on each other: {' → '.join(circle)}"


def _stages(data: Mapping[str, Any]) -> dict[str, Any]:
    stages = data.get("stages")
    if not isinstance(stages, dict):
        return {}
    return {name: raw for name, raw in stages.items() if isinstance(raw, dict)}


def _stage_class(model: type[Spec]) -> Any:
    return get_args(model.model_fields["stages"].annotation)[1]


def _fields(name: str, stage: Stage) -> Iterator[_Field]:
    for field, info in type(stage.body).model_fields.items():
        yield ("stages", name, stage.verb, field), info, getattr(stage.body, field)


def _sound_fields(model: type[Spec], name: str, raw: Mapping[str, Any]) -> Iterator[_Field]:
    """The fields of a wrong stage that are right by themselves."""
    for verb in VERBS:
        body = raw.get(verb)
        (config,) = models_in([_stage_class(model).model_fields[verb].annotation])
        for field, info in config.model_fields.items():
            if isinstance(body, dict) and field in body:
                value = _valid(Annotated[info.annotation, *info.metadata, None], body[field])
                if value is not None:
                    yield ("stages", name, verb, field), info, value


def _valid(annotation: Any, value: Any) -> Any:
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return None


def _wrong_references(found: Sequence[Reference], verbs: Mapping[str, str]) -> _Problems:
    for at, wanted, target, _ in found:
        verb = " or ".join(wanted)
        if target not in verbs:
            have = ", ".join(name for name, v in verbs.items() if v in wanted) or "none"
            message = f"no stage '{target}'{nearest(target, verbs)}; {verb} stages here: {have}"
            yield at, message
        elif verbs[target] not in wanted:
            yield at, f"'{target}' is no {verb} stage but {verbs[target] or 'nothing yet'}"


def _missing_requirements(at: Path_, value: Any, plugins: Plugins) -> _Problems:
    for inner, found in _components(at, value, plugins):
        missing = found.missing_requirements()
        if missing:
            needs = f"'{found.component.type}' needs {', '.join(missing)}"
            yield inner, f"{needs}: {found.install_command()}"


def every_config(at: Path_, value: Any) -> Iterator[tuple[Path_, Config]]:
    """Every configuration in a value, and in those, with its place."""
    for inner, config in _configs(at, value):
        if isinstance(config, Config):
            yield inner, config
        for name in type(config).model_fields:
            yield from every_config((*inner, name), getattr(config, name))


def _unusable(at: Path_, value: Any, permissions: Permissions) -> _Problems:
    """What configurations say of files and names outside the spec, and what nobody has allowed them."""
    for inner, config in every_config(at, value):
        try:
            wrong = [*config.problems().items(), *permissions.refusals(config.needs())]
        except Exception as error:  # a plugin's check may raise anything, for files it reads
            yield inner, f"cannot be checked: {type(error).__name__}: {error}"
            continue
        for field, why in wrong:
            yield (*inner, *field.split(".")), why


def place_of(config: BaseModel, value: Any, at: Path_ = ()) -> Path_ | None:
    """The path in a value to this very configuration."""
    for inner, other in _configs(at, value):
        if other is config:
            return inner
        for name in type(other).model_fields:
            found = place_of(config, getattr(other, name), (*inner, name))
            if found is not None:
                return found
    return None


def _stage_problems(stages: Mapping[str, Stage | None], name: str, processes: int) -> _Problems:
    stage = stages[name]
    if stage is None:
        return
    if stage.prepare and not any(map(_weight, stage.prepare.sources)):
        yield (
            ("sources",),
            "every source has weight 0: there is nothing to train on; give one a weight",
        )
    if stage.prepare:
        yield from _source_problems(stage.prepare)
    if stage.train:
        yield from _train_problems(stage.train, processes)
        yield from _shape_problems(stages, name, stage.train, processes)
    if stage.evaluate:
        yield from _name_problems(stage.evaluate, stages)
    for index, evaluator in enumerate(stage.evaluate.evaluators if stage.evaluate else ()):
        if getattr(evaluator, "every", None) is not None:
            yield ("evaluators", index, "every"), "only counts inside a train stage"


def _name_problems(evaluate: Evaluate, stages: Collection[str]) -> _Problems:
    """Models whose scores could not be told from those of another."""
    names = evaluate.model_names()
    for index, (name, model) in enumerate(zip(names, evaluate.models, strict=True)):
        given = getattr(model, "name", None)
        if name in names[:index]:
            yield (
                ("models", index),
                f"another of the models is called '{name}' as well; give one of them another `name`",
            )
        elif given in stages and given != getattr(model, "stage", None):
            yield (
                ("models", index, "name"),
                f"'{given}' is the name of a stage, whose model this is not; choose another",
            )


def _weight(source: Any) -> float:
    """Of a source; one whose configuration has none counts as 1."""
    weight = getattr(source, "weight", None)
    return 1.0 if weight is None else float(weight)


def _given(source: Any) -> tuple[str | None, str]:
    """The schema of a source's records, where it is known; or what is wrong with its first rows."""
    try:
        return source.gives(), ""
    except RunError as error:
        return None, str(error)


def _source_problems(prepare: Prepare) -> _Problems:
    """Sources of what is no text. A processor may make text of it."""
    for index, source in enumerate(prepare.sources):
        gives, wrong = _given(source)
        if wrong:
            yield ("sources", index), wrong
        elif gives not in (None, "text") and not prepare.processors:
            yield (
                ("sources", index),
                f"gives {gives} records, but prepare takes text; give them to a train stage as its "
                "`data`, or say by `records: text` and `columns` where their text is",
            )


def _train_problems(train: Train, processes: int) -> _Problems:
    parts: Any = train
    if getattr(parts.model, "name", None):
        yield ("model", "name"), "only counts in an evaluate stage"
    takes = parts.objective.takes
    gives, wrong = _given(parts.data)
    if wrong:
        yield ("data",), wrong
    elif gives is not None and gives not in takes:
        yield (
            ("objective", "type"),
            f"'{parts.objective.type}' takes {' or '.join(sorted(takes))} records, "
            f"but the data gives {gives}",
        )
    if not _weight(parts.data):
        yield ("data", "weight"), "the only source has weight 0: leave it out"
    if not parts.optimizer.elementwise and not parts.strategy.whole_matrices:
        yield (
            ("optimizer", "type"),
            f"'{parts.optimizer.type}' works on whole matrices, which strategy "
            f"'{parts.strategy.type}' splits; use an elementwise optimizer",
        )
    wrong = parts.strategy.check_processes(processes)
    if wrong:
        yield ("strategy",), wrong
    if train.budget.unit == "share" or train.budget.value <= 0:
        yield ("budget",), f"'{train.budget}' is no budget; use tokens, steps, epochs or time"
    try:
        context = parts.model.context_length()
    except (OSError, ValueError) as error:  # a model's own file is damaged
        yield ("model",), str(error)
        return
    for part in ("strategy", "objective"):
        wrong = getattr(train, part).check_train(train, processes)
        if wrong:
            yield (part,), wrong
    if train.holdout and (stage := getattr(train.data, "stage", None)):
        yield ("holdout",), f"'{stage}' holds documents out itself; leave this out"
    if train.limit and (stage := getattr(train.data, "stage", None)):
        yield ("limit",), f"'{stage}' has text, not examples; leave this out, and set `budget`"
    yield from _length_problems(train, context)


def _shape_problems(
    stages: Mapping[str, Stage | None], name: str, train: Any, processes: int
) -> _Problems:
    """Whether the strategy can split the model; only where its degrees make sense at all."""
    if train.strategy.check_processes(processes):
        return
    try:
        train.model.context_length()
    except (OSError, ValueError):  # a damaged file, which is told already
        return
    try:
        shape = shape_of(stages, name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        yield ("model",), f"its size cannot be read: {type(error).__name__}: {error}"
        return
    wrong = train.strategy.check_model(shape, processes) if shape else None
    if wrong:
        yield ("strategy",), wrong


def _length_problems(train: Train, context: int | None) -> _Problems:
    batch = train.batch
    if context and batch.sequence and batch.sequence > context:
        message = f"{batch.sequence} is longer than the model's context of {context}"
        yield ("batch", "sequence"), message
    length = train.row_length(train.model)
    whole = None if batch.examples else batch.tokens
    for name, tokens in (("tokens", whole), ("micro_tokens", batch.micro_tokens)):
        if length and tokens and tokens < length:
            yield (
                ("batch", name),
                f"{tokens} is less than one row of {length} tokens; raise it, or set batch.sequence to "
                "at most as many",
            )


def _field_references(at: Path_, info: FieldInfo, value: Any) -> Iterator[Reference]:
    yield from _named(at, info.annotation, info.metadata, value)
    for inner, config in _configs(at, value):
        for reference in references(config):
            yield reference._replace(at=(*inner, *reference.at))


def _named(at: Path_, annotation: Any, metadata: Sequence[Any], value: Any) -> Iterator[Reference]:
    """The stages that a value names by itself, wherever a StageRef stands in its annotation."""
    ref = next((m for m in metadata if isinstance(m, StageRef)), None)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if ref is not None and isinstance(value, str):
        verbs = (ref.verb, ref.other) if ref.other else (ref.verb,)
        yield Reference(at, verbs, value, ref.head)
    elif origin is Annotated:
        yield from _named(at, arguments[0], arguments[1:], value)
    elif origin in (Union, UnionType):
        found = (list(_named(at, argument, (), value)) for argument in arguments)
        yield from next(filter(None, found), ())
    elif arguments and isinstance(origin, type) and isinstance(value, origin):
        # `tuple[A, B]` has a type for each place; `tuple[A, ...]`, a list or mapping has one for all.
        items = list(_items(value))
        one = (arguments[-1] if isinstance(value, Mapping) else arguments[0],) * len(items)
        inner = arguments if origin is tuple and Ellipsis not in arguments else one
        for argument, (key, item) in zip(inner, items, strict=False):
            yield from _named((*at, key), argument, (), item)


def _components(at: Path_, value: Any, plugins: Plugins) -> Iterator[tuple[Path_, Found]]:
    """Every component in a value with the plugin's record of it."""
    for inner, config in _configs(at, value):
        found = plugins.declaring(config)
        if found:
            yield inner, found
        for name in type(config).model_fields:
            yield from _components((*inner, name), getattr(config, name), plugins)


def _configs(at: Path_, value: Any) -> Iterator[tuple[Path_, BaseModel]]:
    """Every configuration in a value that is one, or holds some at any depth."""
    if isinstance(value, BaseModel):
        yield at, value
    for key, item in _items(value):
        yield from _configs((*at, key), item)


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    """What a tuple, list or mapping holds, by its place."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple | list):
        yield from enumerate(value)


def _circle(dependencies: Mapping[str, Sequence[str]], waiting: Collection[str]) -> list[str]:
    """A way from a stage back to itself, among stages that all wait for others of them."""
    path: list[str] = []
    name = next(name for name in dependencies if name in waiting)
    while name not in path:
        path.append(name)
        name = next(other for other in dependencies[name] if other in waiting)
    return [*path[path.index(name) :], name]
