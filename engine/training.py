"""Puts a train stage together from its components, runs the loop, and writes the artefact."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from engine import folder as folders
from engine import manifest
from engine.artifact import Artifact
from engine.checkpoint import Checkpoints, Saved
from engine.component import Example, Objective, Score, Setup
from engine.compose import Composer
from engine.config import Config
from engine.data.dataset import TrainingData, WindowExamples
from engine.data.mixture import Mixture, MixtureSource
from engine.data.shards import Shards
from engine.errors import RunError
from engine.evaluation import evaluate
from engine.forecast import forecast, plain
from engine.language_model import LanguageModel
from engine.loop import Loop
from engine.machine import Machine
from engine.plan import SEQUENCE, Evaluation, Plan, Ramp, micro_rows
from engine.spec import Train

if TYPE_CHECKING:
    from engine.run import Run, StageContext

_COMPILE_ABOVE_FLOPS = {"cpu": 3e13, "cuda": 1e16}
"""Training FLOPs from which compiling the layers, 10 to 30 s, repays itself: about two minutes."""
_EXACT_WITH = ("training-engine", "torch", "transformers", "numpy")
"""Distributions whose version may change the numbers."""


def train(
    run: Run, name: str, config: Train, tell: Callable[..., None]
) -> tuple[str, dict[str, Any]]:
    """Runs a train stage: its status, and what stage.json keeps of it."""
    path = run.folder.path / name
    tokenizer = open_tokenizer(run, name, config)
    context = run.context(name, tokenizer)
    objective: Objective = run.build("objective", config.objective, context)
    model = _build_model(run, config, context)
    sequence = _sequence(run, config)
    data = _training_data(run, name, config, objective, tokenizer, sequence)
    strategy = run.build("strategy", _strategy(run, name, config), context)
    parameters = _parameters(model)  # now, as some strategies shard them
    flops = 6 * parameters * _budget_tokens(config, data, sequence)
    strategy.prepare(
        Setup(
            build=lambda: model,
            optimizer=run.build("optimizer", config.optimizer, context),
            objective=objective,
            precision=config.precision,
            compile=_compile(run, config, flops),
            activation_checkpointing=config.activation_checkpointing,
            offload_activations=config.offload_activations,
            ema=config.ema,
            seed=run.spec.seed,
        )
    )

    def saved(checkpoint: Saved) -> None:
        run.log.emit("checkpoint", stage=name, step=checkpoint.step)
        tell(
            "engine_checkpoint_saved",
            stage=name,
            step=checkpoint.step,
            folder=str(checkpoint.folder),
        )

    def score(evaluator: Any, limit: int | None) -> list[Score]:
        with strategy.inference() as scored:
            lm = LanguageModel(scored, tokenizer, context=sequence)
            return evaluate(
                evaluator,
                lm,
                run.process,
                limit=limit,
                progress=lambda done, total: run.log.display.progress("evaluate", done, total),
                warn=partial(run.log.warn, stage=name),
            )

    evaluations = []
    for evaluator_config in config.evaluate:
        built = run.build("evaluator", evaluator_config, context)
        limit = getattr(evaluator_config, "limit", None)
        evaluations.append(
            Evaluation(
                getattr(evaluator_config, "type", ""),
                getattr(evaluator_config, "every", None),
                partial(score, built, limit),
            )
        )
    callbacks = [run.build("callback", c, context) for c in config.callbacks]
    checkpoints = Checkpoints(
        path / "checkpoints",
        keep=config.checkpoint.keep,
        background=config.checkpoint.background,
        rank=run.process.rank,
        on_saved=saved,
    )
    optimizer: Any = config.optimizer
    loop = Loop(
        Plan(
            stage=name,
            seed=run.spec.seed,
            sequence=sequence,
            micro_rows=micro_rows(config.batch.micro_tokens, sequence),
            ramp=_ramp(config),
            budget=config.budget,
            lr=optimizer.lr,
            clip=config.clip,
            checkpoint_every=config.checkpoint.every,
            evaluations=evaluations,
            check_every=config.check_replicas,
            versions={name: metadata.version(name) for name in _EXACT_WITH},
            inexact=run.inexact,
        ),
        data=data,
        objective=objective,
        strategy=strategy,
        schedule=run.build("schedule", optimizer.schedule, context),
        callbacks=callbacks,
        checkpoints=checkpoints,
        process=run.process,
        log=run.log,
        on_step=lambda event: tell("engine_step_finished", event=event),
    )
    _describe(run, name, parameters, data, flops)
    with ExitStack() as stack:
        stack.callback(checkpoints.close)
        for callback in callbacks:
            callback.stage_started(name, path, config.model_dump(mode="json"))
            stack.callback(callback.stage_finished)
        outcome = loop.run()
    if outcome.status != "done":
        return outcome.status, {}
    weights = strategy.export()
    if run.process.rank == 0:
        Artifact.save(path / "final", model, weights, tokenizer)
    else:
        for _ in weights:  # export is collective
            pass
    run.process.barrier()
    return "done", {
        "budget": str(config.budget),
        "steps": outcome.state.step,
        "tokens": outcome.state.tokens,
        "parameters": parameters,
        "training_seconds": round(outcome.state.seconds, 1),
        "scores": [{"model": name, **asdict(score)} for score in outcome.scores],
        "fingerprint": folders.fingerprint(path / "final" / "manifest.json"),
    }


def open_tokenizer(run: Run, name: str, config: Train) -> Any:
    """The tokenizer of the stage's data, or else of its model. Raises RunError on a mismatch."""
    from transformers import AutoTokenizer

    folders_of = []
    data = run.data_stage(name)
    if data is not None:
        manifest.verify(run.folder.path / data, "tokenizer/")
        folders_of.append(run.folder.path / data / "tokenizer")
    base = getattr(config.model, "stage", None)
    if base is not None:
        folders_of.append(run.folder.path / base / "final")
    elif data is None:
        folders_of.append(Path(getattr(config.model, "path", "")))
    opened = [AutoTokenizer.from_pretrained(f, trust_remote_code=False) for f in folders_of]
    if len(opened) == 2 and opened[0].get_vocab() != opened[1].get_vocab():
        raise RunError(
            f"{name}: the data of '{data}' was tokenized with another vocabulary than '{base}' uses",
            mend="prepare the data with that model's tokenizer: "
            f"tokenizer: {{type: pretrained, path: {folders_of[1]}}}",
        )
    return opened[0]


def stage_data(
    run: Run, name: str, config: Train, tokenizer: Any
) -> tuple[TrainingData, Objective]:
    """What a stage is trained on, and the objective that reads it."""
    objective: Objective = run.build("objective", config.objective, run.context(name, tokenizer))
    sequence = _sequence(run, config)
    return _training_data(run, name, config, objective, tokenizer, sequence), objective


def _training_data(
    run: Run, name: str, config: Train, objective: Objective, tokenizer: Any, sequence: int
) -> TrainingData:
    """The stage's examples in their order. Raises RunError."""
    seed = run.spec.seed
    prepared = run.data_stage(name)
    if prepared is None:
        records = run.context(name, tokenizer).records(config.data)
        examples: list[Example] = []
        for record in records:
            examples.extend(objective.encode(record, tokenizer, sequence))
        source = MixtureSource(getattr(config.data, "type", "data"), len(examples))
        return TrainingData(Mixture([source], seed), [examples])
    stage = run.spec.stages[prepared].prepare
    assert stage is not None
    sources, parts = [], []
    for index, (label, source_config) in enumerate(
        zip(stage.source_names(), stage.sources, strict=True)
    ):
        shards = run.folder.path / prepared / "shards" / str(index)
        if run.process.rank == 0:
            Shards.open(shards, verify=True)
        part = WindowExamples(shards, sequence)
        weight, epochs = (getattr(source_config, n, None) for n in ("weight", "max_epochs"))
        weight = 1.0 if weight is None else weight
        sources.append(MixtureSource(label, len(part), weight, epochs))
        parts.append(part)
    if not any(source.weight for source in sources):
        raise RunError(f"{prepared}: every source has weight 0", mend="give one a weight")
    return TrainingData(Mixture(sources, seed), parts)


def _build_model(run: Run, config: Train, context: StageContext) -> nn.Module:
    import torch

    torch.manual_seed(run.spec.seed)  # the initial weights: the same on every rank
    model: nn.Module = run.build("model", config.model, context)
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
    return model


def _strategy(run: Run, name: str, config: Train) -> Config:
    """The stage's, or the one that it stands for on these processes: rank 0's choice."""
    strategy: Any = config.strategy
    if not strategy.chooses:
        return config.strategy
    process = run.process
    found = forecast(run.loaded, name, process.world_size, Machine.here(process.local_world_size))
    if found is None:
        return config.strategy
    chosen, why = process.broadcast((plain(found.chosen.config), found.chosen.why))
    run.log.emit("strategy_chosen", stage=name, strategy=chosen, why=why)
    composed = Composer(run.loaded.plugins).config_class("strategy", chosen["type"])
    return composed.model_validate(chosen)


def _sequence(run: Run, config: Train) -> int:
    """Tokens in a row: as the spec says, or what the model can attend to."""
    model: Any = config.model
    length = config.batch.sequence or model.context_length()
    base = getattr(model, "stage", None)
    if length is None and base is not None:
        file = run.folder.path / base / "final" / "config.json"
        length = json.loads(file.read_text(encoding="utf-8")).get("max_position_embeddings")
    return int(length or SEQUENCE)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _budget_tokens(config: Train, data: TrainingData, sequence: int) -> float:
    """Roughly how many tokens the budget is; 10k a second where it is a time."""
    per_unit: Mapping[str, float] = {
        "tokens": 1,
        "steps": config.batch.tokens,
        "epochs": data.epoch_size * sequence,
        "seconds": 10_000,
    }
    return config.budget.value * per_unit[config.budget.unit]


def _compile(run: Run, config: Train, flops: float) -> bool:
    if config.compile != "auto":
        return config.compile
    return flops > _COMPILE_ABOVE_FLOPS.get(run.process.device.type, math.inf)


def _ramp(config: Train) -> Ramp:
    ramp = config.batch.ramp
    if ramp is None:
        return Ramp(config.batch.tokens)
    return Ramp(config.batch.tokens, ramp.every, ramp.factor, ramp.most)


def _describe(run: Run, name: str, parameters: int, data: TrainingData, flops: float) -> None:
    run.log.emit(
        "training",
        stage=name,
        parameters=parameters,
        rows=data.epoch_size,
        flops=flops,
        segments=data.mixture.segments,
    )
