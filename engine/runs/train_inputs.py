"""Inputs of a train stage: its tokenizer, its examples in their order, its model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from engine.contracts.batch import Example
from engine.contracts.component_config import ObjectiveConfig
from engine.contracts.model_config import (
    ModelConfig,
    Origin,
)
from engine.contracts.model_sizes import SEQUENCE
from engine.contracts.objective import Objective
from engine.contracts.records import Record
from engine.contracts.spec import Train
from engine.data import contents
from engine.data.examples import TrainingData
from engine.data.holdout import digest_of, is_held_out
from engine.data.mixture import Mixture, MixtureSource
from engine.data.shards import Shards
from engine.data.windows import Windows
from engine.errors import RunError
from engine.modeling.heads import context_of, with_scalar_head
from engine.modeling.model_check import examine
from engine.modeling.pretrained import pretrained_tokenizer
from engine.modeling.rendering import RecordError
from engine.modeling.weight_types import for_training
from engine.runs.automatic import choose_precision
from engine.runs.context import RunContext, StageContext
from engine.spec.architectures import check_reopens, register_named
from engine.spec.model_origin import model_of
from engine.storage import manifest


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """Inputs of a train stage; ``config`` has the precision that ``auto`` means on this machine."""

    config: Train
    context: StageContext
    objective: Any
    model: nn.Module
    data: TrainingData
    sequence: int

    def digests(self) -> dict[str, str]:
        """Digests of inputs from outside the run, by name; those from its stages are in stage.json."""
        folders = (Path(name) for name in self.config.model.reads())
        given = {f"the model in '{f}'": contents.of_folder(f) for f in folders if f.is_dir()}
        if self.config.data.prepare_stage() is None:
            given["its data"] = contents.of_examples(self.data.examples())
        return given


def open_inputs(run: RunContext, name: str, config: Train) -> TrainInputs:
    """Opens or builds all inputs; collective. Raises RunError, SpecError."""
    tokenizer = open_tokenizer(run, name, config)
    precision = choose_precision(run, name, config)
    config = config.model_copy(update={"precision": precision})
    context = run.context(name, tokenizer, precision)
    objective = run.build("objective", config.objective, context)
    for message in config.objective.warnings():
        run.log.warn(message, stage=name)
    model = build_model(run, config, context)
    sequence = sequence_length(run, name, config)
    data = training_data(run, name, config, objective, tokenizer, sequence)
    return TrainInputs(config, context, objective, model, data, sequence)


def open_tokenizer(run: RunContext, name: str, config: Train) -> Any:
    """The tokenizer of the stage's data, or else of its model. Raises RunError on a mismatch.

    Data may add tokens to the vocabulary of a model from outside the run, whose embeddings can grow.
    """
    data = run.data_stage(name)
    if data is None:
        return model_tokenizer(run, config.model)
    if run.process.rank == 0:  # verify all files before any is read
        manifest.verify(run.folder.path / data)
    run.process.barrier()
    opened = pretrained_tokenizer(str(run.folder.path / data / "tokenizer"))
    label, source = _origin(run, config.model)
    if source is not None:
        own, given = model_tokenizer(run, config.model).get_vocab(), opened.get_vocab()
        grows = config.model.origin.stage is None
        if own != given and not (grows and own.items() <= given.items()):
            raise RunError(
                f"{name}: the data of '{data}' was tokenized with another vocabulary than '{label}' "
                "uses",
                hint="prepare the data with that model's tokenizer: "
                f"tokenizer: {{type: pretrained, path: {source}}}",
            )
    return opened


def model_tokenizer(run: RunContext, config: ModelConfig) -> Any:
    """The tokenizer saved with the model of a configuration. Raises RunError if there is none."""
    _, source = _origin(run, config)
    if source is None:
        raise RunError(
            f"model '{config.type_name}' is untrained: it has no tokenizer",
            hint="let `data` name a prepare stage, or `model` a train stage or a pretrained model",
        )
    return pretrained_tokenizer(source, config.origin.revision)


def _origin(run: RunContext, config: ModelConfig) -> tuple[str, str | None]:
    """A model's name in messages, and the folder or hub name that it comes from."""
    origin = config.origin
    if origin.stage is not None:
        return origin.stage, str(run.folder.path / origin.stage / "final")
    return origin.path or config.type_name, config.tokenizer_path()


def stage_data(
    run: RunContext, name: str, config: Train, tokenizer: Any
) -> tuple[TrainingData, Objective]:
    """A stage's training data, and the objective that reads it."""
    objective: Objective = run.build("objective", config.objective, run.context(name, tokenizer))
    sequence = sequence_length(run, name, config)
    return training_data(run, name, config, objective, tokenizer, sequence), objective


def training_data(
    run: RunContext, name: str, config: Train, objective: Objective, tokenizer: Any, sequence: int
) -> TrainingData:
    """The stage's examples in their order. Raises RunError, SpecError."""
    objective.check(tokenizer)
    seed = run.spec.seed_of(name)
    prepared = run.data_stage(name)
    if prepared is None:
        examples = _examples(run, name, config, objective, tokenizer, sequence)
        given: Any = config.data
        source = MixtureSource(given.type, len(examples), given.weight, given.max_epochs)
        return TrainingData(Mixture([source], seed), [examples])
    stage = run.spec.stages[prepared].prepare
    assert stage is not None
    encode = partial(objective.encode_window, tokenizer=tokenizer)
    sources, parts = [], []
    for index, (label, source_config) in enumerate(
        zip(stage.source_names(), stage.sources, strict=True)
    ):
        shards = run.folder.path / prepared / "shards" / str(index)
        part = Windows(Shards.open(shards), sequence, encode)
        weight, epochs = source_config.weight, source_config.max_epochs
        sources.append(MixtureSource(label, len(part), weight, epochs))
        parts.append(part)
    return TrainingData(Mixture(sources, seed), parts)


def _examples(
    run: RunContext, name: str, config: Train, objective: Objective, tokenizer: Any, sequence: int
) -> list[Example]:
    """Rows that the objective makes of a source's records. Raises RunError if they fill no batch."""
    examples: list[Example] = []
    asked: list[bytes] = []
    aside: set[bytes] = set()
    dropped: Counter[str] = Counter()
    first: dict[str, str] = {}
    read = held = 0
    grouped = False
    source = run.context(name, tokenizer).stage_rows()
    for record in source:
        grouped = grouped or "group" in record.meta
        enough = bool(config.limit) and len(examples) >= (config.limit or 0)
        # Without groups copies of a record are held out together, so the rest need not be read.
        if enough and not (config.holdout and grouped):
            break
        _check_schema(name, record, config.objective)
        out = is_held_out(record, config.holdout, run.spec.seed)
        if out:
            aside.add(digest_of(record))
        if enough:
            continue
        read += 1
        held += out
        for example in () if out else _encoded(objective, record, tokenizer, sequence):
            if isinstance(example, str):
                dropped[example] += 1
                first.setdefault(example, record.id)
            else:
                examples.append(example)
                asked.append(digest_of(record))
    source.check()
    read += source.bad.total() + source.dropped.total()
    dropped += source.bad + source.dropped
    first |= {bad.reason: bad.id for bad in reversed(source.first)} | source.first_dropped
    kept = [e for e, digest in zip(examples, asked, strict=True) if digest not in aside]
    if len(kept) < len(examples):
        dropped["held-out-elsewhere"] = len(examples) - len(kept)
    examples = kept
    rows = objective.arrange(examples, sequence)
    # With a budget in epochs the last batch may be smaller.
    whole = config.batch.examples or config.batch.tokens // sequence
    wanted = 1 if config.budget.unit == "epochs" else whole
    run.log.emit(
        "examples",
        stage=name,
        records=read,
        held_out=held,
        rows=len(rows),
        dropped=dict(dropped),
        first_dropped=first,
        truncated=sum(example.truncated for example in examples),
        bad_rows=source.places(),
        **({"processors": source.summaries} if source.summaries else {}),
    )
    if len(rows) < wanted:
        reasons = "".join(
            f"; {count} {why}" + (f" (first {first[why]})" if why in first else "")
            for why, count in dropped.items()
        )
        unit = "examples" if config.batch.examples else "tokens"
        # If nothing was dropped, examples share rows, and shorter rows are more rows.
        way = "longer" if dropped else "shorter"
        raise RunError(
            f"{name}: {read} records, of which {held} are held out, give {len(rows)} rows of at "
            f"most {sequence} tokens, less than one batch of {whole}{reasons}",
            hint=f"give more data, a smaller batch (`batch.{unit}`), or a {way} `batch.sequence`",
        )
    return rows


def _encoded(
    objective: Objective, record: Record, tokenizer: Any, sequence: int
) -> Iterator[Example | str]:
    """A record's examples, or the reason why it cannot be encoded."""
    try:
        yield from objective.encode(record, tokenizer, sequence)
    except RecordError as error:
        yield error.reason


def _check_schema(name: str, record: Record, objective: ObjectiveConfig) -> None:
    """Raises RunError for a record of a schema that the objective does not take: some sources know
    their schema only on reading."""
    if record.schema not in objective.takes:
        raise RunError(
            f"{name}: {record.id}: a {record.schema} record, but '{objective.type_name}' takes "
            f"{' or '.join(sorted(objective.takes))} records",
            hint="describe the source's rows by its `records` and `columns`, or use an objective for "
            f"{record.schema} records",
        )


def build_model(run: RunContext, config: Train, context: StageContext) -> nn.Module:
    """The model that training begins with, with the head that the objective needs. Raises RunError."""
    import torch

    torch.manual_seed(context.seed)  # the initial weights: the same on every rank
    model: nn.Module = run.build("model", config.model, context)
    if config.objective.head == "scalar":
        model = with_scalar_head(model, context.seed)
    check_reopens(model, run.loaded.plugins)
    for parameter_name, parameter in model.named_parameters():
        if any(fnmatchcase(parameter_name, glob) for glob in config.freeze):
            parameter.requires_grad_(False)
    unused = [
        glob
        for glob in config.freeze
        if not any(fnmatchcase(n, glob) for n, _ in model.named_parameters())
    ]
    if unused:
        some = ", ".join(n for n, _ in list(model.named_parameters())[:4])
        raise RunError(f"freeze: no parameter matches '{unused[0]}'", hint=f"names are: {some} …")
    if not any(p.requires_grad for p in model.parameters()):
        raise RunError("freeze: no parameter is left to train", hint="freeze fewer")
    examine(model, learns=True)
    for_training(model, config.precision)
    return model


def sequence_length(run: RunContext, name: str, config: Train) -> int:
    """Tokens in a row: from the spec, or chosen for the model; collective.

    A choice below the model's context is logged and recorded, so that the stage keeps it; a stage that
    trained before there was such a choice keeps whole contexts.
    """
    model = model_of(run.spec.stages, name)
    if config.batch.sequence or model is None:
        return config.batch.sequence or SEQUENCE
    length, context = config.row_length(model), model.context_length()
    if length is None:
        context = _context_of(run, config.model.origin) or SEQUENCE
        length = min(context, model.longest_row)
        if not config.batch.examples:
            length = min(length, config.batch.tokens)
    standing = run.folder.standing(name)
    if standing is None or (length == context and "sequence" not in standing.choices):
        return length
    trained = any((run.folder.path / name).glob("checkpoints/step-*"))
    chosen: int = run.decide(name, "sequence", lambda: context if trained else length)
    run.log.emit("rows_chosen", stage=name, sequence=chosen, context=context)
    return chosen


def _context_of(run: RunContext, origin: Origin) -> int | None:
    """Context length of an earlier stage's model, or of one on the hub, which is read only now."""
    from transformers import AutoConfig

    folder = run.folder.path / origin.stage / "final" if origin.stage else origin.path
    if folder is None:
        return None
    register_named(run.loaded.plugins)
    made = AutoConfig.from_pretrained(folder, revision=origin.revision, trust_remote_code=False)
    return context_of(made)
