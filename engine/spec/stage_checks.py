"""Checks within one stage: whether the data, model, objective, strategy and sizes fit together."""

from __future__ import annotations

from engine.contracts.component_config import DataConfig, DataSourceConfig
from engine.contracts.spec import Train
from engine.errors import RunError
from engine.spec.model_origin import shape_of
from engine.spec.parsed_stages import ParsedStages, Problems


def prepared_sources(parsed: ParsedStages, name: str) -> Problems:
    """Sources without weight, and sources that give no text."""
    prepare = parsed.prepare(name)
    if not prepare:
        return
    if not any(source.weight for source in prepare.sources):
        yield (
            ("prepare", "sources"),
            "every source has weight 0: there is nothing to train on; give one a weight",
        )
    for index, source in enumerate(prepare.sources):
        gives, wrong = _given(source)
        if wrong:
            yield ("prepare", "sources", index), wrong
        elif gives not in (None, "text"):
            yield (
                ("prepare", "sources", index),
                f"gives {gives} records, but prepare takes text; give them to a train stage as its "
                "`data`, or say by `records: text` and `columns` where their text is",
            )


def names_of_models(parsed: ParsedStages, name: str) -> Problems:
    """Names of models that have no scores, or whose scores could not be told from another model's."""
    train = parsed.train(name)
    if train and train.model.given_name:
        yield ("train", "model", "name"), "only counts in an evaluate stage"
    evaluate = parsed.evaluate(name)
    if not evaluate:
        return
    names = evaluate.model_names()
    for index, (called, model) in enumerate(zip(names, evaluate.models, strict=True)):
        given = model.given_name
        if called in names[:index]:
            yield (
                ("evaluate", "models", index),
                f"another of the models is called '{called}' as well; give one of them another "
                "`name`",
            )
        elif given in parsed.stages and given != model.origin.stage:
            yield (
                ("evaluate", "models", index, "name"),
                f"'{given}' is the name of a stage, whose model this is not; choose another",
            )


def training_records(parsed: ParsedStages, name: str) -> Problems:
    """Data that the objective cannot train on, or that has no weight."""
    train = parsed.train(name)
    if not train:
        return
    takes = train.objective.takes
    gives, wrong = _given(train.data)
    if wrong:
        yield ("train", "data"), wrong
    elif gives is not None and gives not in takes:
        yield (
            ("train", "objective", "type"),
            f"'{train.objective.type_name}' takes {' or '.join(sorted(takes))} records, "
            f"but the data gives {gives}",
        )
    elif (stage := train.data.prepare_stage()) and (fault := train.objective.prepared_fault()):
        yield (
            ("train", "data"),
            f"'{train.objective.type_name}' cannot train on the prepared '{stage}': {fault}; let "
            "`data` be a source of records, or choose another objective",
        )
    if isinstance(train.data, DataSourceConfig) and not train.data.weight:
        yield ("train", "data", "weight"), "the only source has weight 0: leave it out"


def processed_records(parsed: ParsedStages, name: str) -> Problems:
    """Processors of a train stage that has no records, or that would change them."""
    train = parsed.train(name)
    if not train:
        return
    if train.processors and (stage := train.data.prepare_stage()):
        yield (
            ("train", "processors"),
            f"'{stage}' prepares the documents: list the processors in that stage",
        )
    for index, processor in enumerate(train.processors):
        if processor.changes_texts():
            yield (
                ("train", "processors", index),
                f"'{getattr(processor, 'type', '')}' replaces texts, but in a train stage processors "
                "can only drop records; leave it out, or set it to drop or to annotate",
            )


def division_of_work(parsed: ParsedStages, name: str) -> Problems:
    """A strategy that does not suit the optimizer or the number of processes."""
    train = parsed.train(name)
    if not train:
        return
    if not train.optimizer.elementwise and not train.strategy.whole_matrices:
        yield (
            ("train", "optimizer", "type"),
            f"'{train.optimizer.type_name}' works on whole matrices, which strategy "
            f"'{train.strategy.type_name}' splits; use an elementwise optimizer",
        )
    impossible = train.strategy.check_processes(parsed.processes)
    if impossible:
        yield ("train", "strategy"), impossible


def penalties(parsed: ParsedStages, name: str) -> Problems:
    """Penalties that the objective, the strategy or compiled layers cannot serve."""
    train = parsed.train(name)
    for index, penalty in enumerate(train.penalties if train else ()):
        assert train is not None
        at = ("train", "penalties", index)
        lacks = sorted(penalty.inputs - train.strategy.penalty_inputs)
        if train.objective.external_loop:
            yield at, f"'{train.objective.type_name}' has a loop of its own, without penalties"
        elif lacks and not train.strategy.chooses:
            yield (
                at,
                f"'{penalty.type_name}' reads {' and '.join(lacks)}, which strategy "
                f"'{train.strategy.type_name}' does not give as one process does; leave the penalty "
                "out, or use another strategy",
            )
        elif "modules" in penalty.inputs and train.compile is True:
            yield at, f"'{penalty.type_name}' reads modules, which `compile` hides; leave that out"


def budget(parsed: ParsedStages, name: str) -> Problems:
    """A budget that ends before the first step, or is a share of itself."""
    train = parsed.train(name)
    if train and (train.budget.unit == "share" or train.budget.value <= 0):
        yield (
            ("train", "budget"),
            f"'{train.budget}' is no budget; use tokens, steps, epochs or time",
        )


def trained_model(parsed: ParsedStages, name: str) -> Problems:
    """A model that cannot be read, and training that does not fit the model or its data."""
    train = parsed.train(name)
    if not train:
        return
    try:
        context = train.model.context_length()
    except (OSError, ValueError) as error:  # a model's own file is damaged
        yield ("train", "model"), str(error)
        return
    for part, config in (("strategy", train.strategy), ("objective", train.objective)):
        contradicts = config.check_train(train, parsed.processes)
        if contradicts:
            yield ("train", part), contradicts
    if train.holdout and (stage := train.data.prepare_stage()):
        yield ("train", "holdout"), f"'{stage}' holds documents out itself; leave this out"
    if train.limit and (stage := train.data.prepare_stage()):
        yield (
            ("train", "limit"),
            f"'{stage}' has text, not examples; leave this out, and set `budget`",
        )
    yield from _lengths(train, context)
    yield from _split(parsed, name, train)


def intervals(parsed: ParsedStages, name: str) -> Problems:
    """Intervals of evaluators outside of training."""
    evaluate = parsed.evaluate(name)
    for index, evaluator in enumerate(evaluate.evaluators if evaluate else ()):
        if evaluator.every is not None:
            yield ("evaluate", "evaluators", index, "every"), "only counts inside a train stage"


def _given(source: DataConfig) -> tuple[str | None, str]:
    """The schema of a source's records, None if unknown; and what is wrong with its first rows."""
    try:
        return source.gives(), ""
    except RunError as error:
        return None, str(error)


def _lengths(train: Train, context: int | None) -> Problems:
    """Rows longer than the context or than a batch."""
    batch = train.batch
    if context and batch.sequence and batch.sequence > context:
        message = f"{batch.sequence} is longer than the model's context of {context}"
        yield ("train", "batch", "sequence"), message
    length = train.row_length(train.model)
    whole = None if batch.examples else batch.tokens
    for field, tokens in (("tokens", whole), ("micro_tokens", batch.micro_tokens)):
        if length and tokens and tokens < length:
            yield (
                ("train", "batch", field),
                f"{tokens} is less than one row of {length} tokens; raise it, or set batch.sequence to "
                "at most as many",
            )


def _split(parsed: ParsedStages, name: str, train: Train) -> Problems:
    """A model that the strategy cannot split over a number of processes that it accepts."""
    if train.strategy.check_processes(parsed.processes):
        return
    try:
        shape = shape_of(parsed.stages, name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        yield ("train", "model"), f"its size cannot be read: {type(error).__name__}: {error}"
        return
    wrong = train.strategy.check_model(shape, parsed.processes) if shape else None
    if wrong:
        yield ("train", "strategy"), wrong
