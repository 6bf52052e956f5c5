"""What a train stage works on: its tokenizer, its examples in their order, its model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch import nn

from engine import manifest
from engine.component import Example, Objective
from engine.data.dataset import TrainingData, WindowExamples
from engine.data.holdout import digest_of, is_held_out
from engine.data.mixture import Mixture, MixtureSource
from engine.data.records import Record
from engine.errors import RunError
from engine.modules import context_of, with_scalar_head
from engine.plan import SEQUENCE
from engine.pretrained import pretrained_tokenizer
from engine.rendering import RecordError
from engine.shapes import model_of
from engine.spec import Train
from engine.trial import examine
from engine.weight_types import for_training

if TYPE_CHECKING:
    from engine.run import Run, StageContext


def open_tokenizer(run: Run, name: str, config: Train) -> Any:
    """The tokenizer of the stage's data, or else of its model. Raises RunError on a mismatch.

    Data may have tokens that a model from elsewhere has not met, after those that it knows: its
    embeddings can grow.
    """
    data = run.data_stage(name)
    if data is None:
        return model_tokenizer(run, config.model)
    if run.process.rank == 0:  # all of it, before anything is read
        manifest.verify(run.folder.path / data)
    run.process.barrier()
    opened = pretrained_tokenizer(str(run.folder.path / data / "tokenizer"))
    label, source = _origin(run, config.model)
    if source is not None:
        own, given = model_tokenizer(run, config.model).get_vocab(), opened.get_vocab()
        grows = getattr(config.model, "stage", None) is None
        if own != given and not (grows and own.items() <= given.items()):
            raise RunError(
                f"{name}: the data of '{data}' was tokenized with another vocabulary than '{label}' "
                "uses",
                mend="prepare the data with that model's tokenizer: "
                f"tokenizer: {{type: pretrained, path: {source}}}",
            )
    return opened


def model_tokenizer(run: Run, config: Any) -> Any:
    """The tokenizer beside the model of a configuration. Raises RunError where there is none."""
    _, source = _origin(run, config)
    if source is None:
        raise RunError(f"model '{config.type}' is untrained: it has no tokenizer")
    return pretrained_tokenizer(source, getattr(config, "revision", None))


def _origin(run: Run, config: Any) -> tuple[str, str | None]:
    """What a model is called by, and the folder or the name on the hub that it comes from."""
    stage, path = getattr(config, "stage", None), getattr(config, "path", None)
    if stage is not None:
        return stage, str(run.folder.path / stage / "final")
    return path or config.type, config.tokenizer_path()


def stage_data(
    run: Run, name: str, config: Train, tokenizer: Any
) -> tuple[TrainingData, Objective]:
    """What a stage is trained on, and the objective that reads it."""
    objective: Objective = run.build("objective", config.objective, run.context(name, tokenizer))
    sequence = sequence_length(run, name, config)
    return training_data(run, name, config, objective, tokenizer, sequence), objective


def training_data(
    run: Run, name: str, config: Train, objective: Objective, tokenizer: Any, sequence: int
) -> TrainingData:
    """The stage's examples in their order. Raises RunError."""
    seed = run.spec.seed
    prepared = run.data_stage(name)
    if prepared is None:
        examples = _examples(run, name, config, objective, tokenizer, sequence)
        given: Any = config.data
        source = MixtureSource(given.type, len(examples), given.weight, given.max_epochs)
        return TrainingData(Mixture([source], seed), [examples])
    stage = run.spec.stages[prepared].prepare
    assert stage is not None
    sources, parts = [], []
    for index, (label, source_config) in enumerate(
        zip(stage.source_names(), stage.sources, strict=True)
    ):
        shards = run.folder.path / prepared / "shards" / str(index)
        part = WindowExamples(shards, sequence)
        weight, epochs = (getattr(source_config, n, None) for n in ("weight", "max_epochs"))
        weight = 1.0 if weight is None else weight
        sources.append(MixtureSource(label, len(part), weight, epochs))
        parts.append(part)
    return TrainingData(Mixture(sources, seed), parts)


def _examples(
    run: Run, name: str, config: Train, objective: Objective, tokenizer: Any, sequence: int
) -> list[Example]:
    """What the objective makes of a source's records. Raises RunError where that is too little."""
    objective.check(tokenizer)
    examples: list[Example] = []
    asked: list[bytes] = []
    aside: set[bytes] = set()
    dropped: Counter[str] = Counter()
    first: dict[str, str] = {}
    read = held = 0
    grouped = False
    source = run.context(name, tokenizer).rows(config.data)
    for record in source:
        grouped = grouped or "group" in record.meta
        enough = bool(config.limit) and len(examples) >= (config.limit or 0)
        # Without groups a copy is always on the side of its original: no need to see them all.
        if enough and not (config.holdout and grouped):
            break
        _check_schema(name, record, config)
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
    read += source.bad.total()
    dropped += source.bad
    first |= {bad.reason: bad.id for bad in reversed(source.first)}
    kept = [e for e, digest in zip(examples, asked, strict=True) if digest not in aside]
    if len(kept) < len(examples):
        dropped["held-out-elsewhere"] = len(examples) - len(kept)
    examples = kept
    rows = objective.arrange(examples, sequence)
    # A budget in epochs ends where the rows do, whatever the batch is.
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
    )
    if len(rows) < wanted:
        reasons = "".join(
            f"; {n} {why}" + (f" (first {first[why]})" if why in first else "")
            for why, n in dropped.items()
        )
        unit = "examples" if config.batch.examples else "tokens"
        # Where nothing was left out, several examples share a row.
        way = "longer" if dropped else "shorter"
        raise RunError(
            f"{name}: {read} records, of which {held} are held out, give {len(rows)} rows of at "
            f"most {sequence} tokens, less than one batch of {whole}{reasons}",
            mend=f"give more data, a smaller batch (`batch.{unit}`), or a {way} `batch.sequence`",
        )
    return rows


def _encoded(
    objective: Objective, record: Record, tokenizer: Any, sequence: int
) -> Iterator[Example | str]:
    """A record's examples; a record that cannot be encoded rightly is left out by the reason's name."""
    try:
        yield from objective.encode(record, tokenizer, sequence)
    except RecordError as error:
        yield error.reason


def _check_schema(name: str, record: Record, config: Train) -> None:
    """Raises RunError for records that the objective does not take: a source that recognises its rows
    may know what it gives only as it reads."""
    objective: Any = config.objective
    if record.schema not in objective.takes:
        raise RunError(
            f"{name}: {record.id}: a {record.schema} record, but '{objective.type}' takes "
            f"{' or '.join(sorted(objective.takes))} records",
            mend="say by the source's `records` and `columns` what its rows are, or use an objective "
            f"for {record.schema} records",
        )


def build_model(run: Run, config: Train, context: StageContext) -> nn.Module:
    """The model that training begins with, with the head that the objective needs. Raises RunError."""
    import torch

    torch.manual_seed(run.spec.seed)  # the initial weights: the same on every rank
    model: nn.Module = run.build("model", config.model, context)
    objective: Any = config.objective
    if objective.head == "scalar":
        model = with_scalar_head(model, run.spec.seed)
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
        raise RunError(f"freeze: no parameter matches '{unused[0]}'", mend=f"names are: {some} …")
    if not any(p.requires_grad for p in model.parameters()):
        raise RunError("freeze: no parameter is left to train", mend="freeze fewer")
    examine(model, learns=True)
    for_training(model, config.precision)
    return model


def sequence_length(run: Run, name: str, config: Train) -> int:
    """Tokens in a row: as the spec says, or what suits the model; collective.

    Where that is less than the model's context it is said and recorded, so that the stage goes on with
    it; a stage that trained before there was such a choice keeps whole contexts.
    """
    model = model_of(run.spec.stages, name)
    if config.batch.sequence or model is None:
        return config.batch.sequence or SEQUENCE
    length, context = config.row_length(model), model.context_length()
    if length is None:
        context = _context_of(run, config) or SEQUENCE
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


def _context_of(run: Run, config: Train) -> int | None:
    """Of the model that a stage before this one made; a model on the hub tells it only here."""
    from transformers import AutoConfig

    base, path = (getattr(config.model, n, None) for n in ("stage", "path"))
    folder = run.folder.path / base / "final" if base else path
    if folder is None:
        return None
    revision = getattr(config.model, "revision", None)
    made = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    return context_of(made)
