"""Puts a train stage together from its components, runs the loop, and writes the artefact."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from engine import folder as folders
from engine.artifact import Artifact
from engine.checkpoint import Checkpoints, Saved
from engine.choices import choose_compile, choose_precision
from engine.compiling import are_full, eager
from engine.component import Adapter, Callback, Objective, Setup
from engine.compose import Composer
from engine.config import Config
from engine.data import contents
from engine.data.dataset import TrainingData
from engine.evaluation import evaluate
from engine.feed import EpisodeFeed, Feed, RecordFeed
from engine.forecast import forecast, plain
from engine.joint import Joint
from engine.language_model import LanguageModel
from engine.loop import Loop
from engine.machine import Machine
from engine.materials import build_model, open_tokenizer, sequence_length, training_data
from engine.model_flops import counted, multiplied
from engine.modules import attend_alike
from engine.objective import BaseOnlineObjective, BaseTrainer, Companion
from engine.outside import train_outside
from engine.pieces import overhead
from engine.plan import Evaluation, Plan, Ramp, micro_rows
from engine.requests import Score
from engine.spec import Train, evaluator_names
from engine.trial import examine
from engine.weight_types import TYPES, for_training

if TYPE_CHECKING:
    from engine.run import Run, StageContext

_KEPT_EXAMPLES = 1000
"""Examples that an objective may look at once more when its model is finished."""
_LOOKED_AT = 8
"""Examples of each source that show whether rows are alike."""
_EXACT_WITH = ("training-engine", "torch", "transformers", "numpy")
"""Distributions whose version may change the numbers."""


def train(
    run: Run, name: str, config: Train, tell: Callable[..., None]
) -> tuple[str, dict[str, Any]]:
    """Runs a train stage: its status, and what stage.json keeps of it."""
    path = run.folder.path / name
    tokenizer = open_tokenizer(run, name, config)
    precision = choose_precision(run, name, config)
    config = config.model_copy(update={"precision": precision})
    context = run.context(name, tokenizer, precision)
    objective: Any = run.build("objective", config.objective, context)
    for message in cast("Any", config.objective).warnings():
        run.log.warn(message, stage=name)
    model = build_model(run, config, context)
    sequence = sequence_length(run, name, config)
    data = training_data(run, name, config, objective, tokenizer, sequence)
    if isinstance(objective, BaseTrainer):
        summary = train_outside(context, config, objective, model, data, sequence, tell)
        final = folders.fingerprint(path / "final" / "manifest.json")
        return "done", {**summary, "fingerprint": final}
    frozen = _frozen(objective.freeze(model), model, precision, run.process.device)
    adapter = _adapter(run, config, context)
    exported = _without_weights(model) if adapter else model
    objective.attach(model)
    callbacks = [run.build("callback", c, context) for c in config.callbacks]
    strategy = _strategy(run, name, config, context, objective, model, adapter, callbacks)
    parameters = sum(p.numel() for p in model.parameters())  # now, as some strategies shard them
    matrices = multiplied(model)
    device = run.process.device.type
    flops = counted(run.loaded.spec.stages, name, config, model, sequence, device).times(
        _budget_tokens(config, data, sequence)
    )
    compiled = choose_compile(
        run, name, config, flops.model.total, alike=_alike(objective, data, sequence)
    )
    strategy.prepare(
        Setup(
            build=lambda: model,
            optimizer=run.build("optimizer", config.optimizer, context),
            objective=objective,
            frozen=frozen,
            precision=precision,
            compile=compiled,
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
    names = evaluator_names(config.evaluate)
    for evaluator_name, evaluator_config in zip(names, config.evaluate, strict=True):
        built = run.build("evaluator", evaluator_config, context)
        limit = getattr(evaluator_config, "limit", None)
        evaluations.append(
            Evaluation(
                evaluator_name,
                getattr(evaluator_config, "every", None),
                partial(score, built, limit),
            )
        )
    checkpoints = Checkpoints(
        path / "checkpoints",
        keep=config.checkpoint.keep,
        background=config.checkpoint.background,
        rank=run.process.rank,
        on_saved=saved,
    )
    optimizer: Any = config.optimizer
    plan = Plan(
        stage=name,
        seed=run.spec.seed,
        sequence=sequence,
        micro_rows=micro_rows(config.batch.micro_tokens, sequence),
        ramp=_ramp(config, sequence),
        budget=config.budget,
        lr=optimizer.lr,
        clip=config.clip,
        checkpoint_every=config.checkpoint.every,
        evaluations=evaluations,
        check_every=config.check_replicas,
        versions={name: metadata.version(name) for name in _EXACT_WITH},
        inexact=run.inexact,
        inputs=_inputs(run, name, config, data),
        compile=compiled,
        overhead=overhead(matrices.number, matrices.weights, run.process.device.type),
    )
    feed: Feed = RecordFeed(data, objective, strategy, plan)
    if isinstance(objective, BaseOnlineObjective):
        feed = EpisodeFeed(
            data,
            objective,
            strategy,
            plan,
            process=run.process,
            tokenizer=tokenizer,
            frozen=frozen,
            folder=path / "rollouts",
            progress=run.log.display.progress,
        )
    loop = Loop(
        plan,
        feed=feed,
        strategy=strategy,
        schedule=run.build("schedule", optimizer.schedule, context),
        callbacks=callbacks,
        checkpoints=checkpoints,
        process=run.process,
        log=run.log,
        on_step=lambda event: tell("engine_step_finished", event=event),
    )
    chosen = {"precision": precision, "compile": compiled}
    run.log.emit(
        "training",
        stage=name,
        **chosen,
        parameters=parameters,
        rows=data.epoch_size,
        flops=flops.model.total,
        executed_flops=flops.executed.total,
        flops_from=flops.source,
        segments=data.mixture.segments,
    )
    kernels = eager if compiled else nullcontext
    with kernels(), ExitStack() as stack:
        stack.callback(checkpoints.close)
        for callback in callbacks:
            callback.stage_started(name, path, {**config.model_dump(mode="json"), **chosen})
            stack.callback(callback.stage_finished)
        outcome = loop.run()
    if outcome.status != "done":
        return outcome.status, {}
    with kernels(), strategy.inference() as finished:
        lm = LanguageModel(finished, tokenizer, context=sequence)
        kept = objective.keep(lm, data.examples(_KEPT_EXAMPLES))
    cast("Any", exported).config.update(kept)
    _save(run, path / "final", exported, strategy.export(), tokenizer, adapter)
    if isinstance(strategy, Joint):
        for other, built, weights in strategy.exports():
            _save(run, path / other, built, weights, tokenizer)
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


def _inputs(run: Run, name: str, config: Train, data: TrainingData) -> dict[str, str]:
    """Digests of what comes from outside the run; its own stages' results have theirs in stage.json."""
    model: Any = config.model
    folders = (Path(name) for name in model.reads())
    given = {f"the model in '{f}'": contents.of_folder(f) for f in folders if f.is_dir()}
    if run.data_stage(name) is None:
        given["its data"] = contents.of_examples(data.examples())
    return given


def _save(
    run: Run,
    folder: Path,
    model: nn.Module,
    weights: Iterator[tuple[str, Tensor]],
    tokenizer: Any,
    adapter: Adapter | None = None,
) -> None:
    """Writes the artefact, an adapter folded into ``model``, whose weights are not read; collective."""
    if run.process.rank:
        for _ in weights:  # export is collective
            pass
        return
    if adapter is not None:
        model.load_state_dict({n: w.cpu() for n, w in weights}, assign=True)
        with torch.no_grad():
            model = adapter.merge(model)
        weights = iter(model.state_dict().items())
    Artifact.save(folder, model, weights, tokenizer)


def _without_weights(model: nn.Module) -> nn.Module:
    """A copy with empty parameters, to be filled when a strategy has divided the model's own."""
    empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, dict(empty))


def _adapter(run: Run, config: Train, context: StageContext) -> Adapter | None:
    given = getattr(config.model, "adapter", None)
    adapter: Adapter | None = run.build("adapter", given, context) if given else None
    return adapter


def _frozen(
    models: Mapping[str, nn.Module], learning: nn.Module, precision: str, device: torch.device
) -> dict[str, nn.Module]:
    """As narrow as the model that learns, so that both round alike: weights, and not buffers, of which
    rotary embeddings' frequencies would be far off. Those of its architecture attend as it does."""
    for model in models.values():
        model.to(device).eval().requires_grad_(False)
        attend_alike(model, learning)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(TYPES[precision])
    return dict(models)


def _strategy(
    run: Run,
    name: str,
    config: Train,
    context: StageContext,
    objective: Objective,
    model: nn.Module,
    adapter: Adapter | None,
    callbacks: Sequence[Callback],
) -> Any:
    """The stage's; where other models learn as well, one for each. These begin without an adapter."""
    chosen = _chosen_strategy(run, name, config)
    main = run.build("strategy", chosen, context)
    others: Mapping[str, Companion] = {}
    if isinstance(objective, BaseOnlineObjective):
        start = adapter.merge(copy.deepcopy(model)) if adapter else model
        others = objective.companions(start)
    if not others:
        return main
    for companion in others.values():
        for_training(companion.build(), config.precision)
        examine(companion.build(), learns=True)

    def limit(companion: str) -> float:
        return min((c.spike_limits.get(companion, math.inf) for c in callbacks), default=math.inf)

    built = {n: (run.build("strategy", chosen, context), o) for n, o in others.items()}
    return Joint(main, built, limit)


def _chosen_strategy(run: Run, name: str, config: Train) -> Config:
    """The stage's, or the one that it stands for on these processes: rank 0's choice."""
    strategy: Any = config.strategy
    if not strategy.chooses:
        return config.strategy
    process = run.process
    found = forecast(
        run.loaded, name, process.world_size, Machine.here(process.local_world_size), config
    )
    if found is None:
        return config.strategy
    chosen, why = process.broadcast((plain(found.chosen.config), found.chosen.why))
    run.log.emit("strategy_chosen", stage=name, strategy=chosen, why=why)
    composed = Composer(run.loaded.plugins).config_class("strategy", chosen["type"])
    return composed.model_validate(chosen)


def _budget_tokens(config: Train, data: TrainingData, sequence: int) -> float:
    """Roughly how many tokens the budget is; 10k a second where it is a time."""
    per_unit: Mapping[str, float] = {
        "tokens": 1,
        "steps": config.batch.in_tokens(sequence),
        "epochs": data.epoch_size * sequence,
        "seconds": 10_000,
    }
    return config.budget.value * per_unit[config.budget.unit]


def _alike(objective: Objective, data: TrainingData, sequence: int) -> bool:
    """Whether rows fill the sequence, as the first examples show. Episodes are of all lengths."""
    if isinstance(objective, BaseOnlineObjective):
        return False
    first = data.examples(_LOOKED_AT)
    return are_full([objective.collate([example]) for example in first], sequence)


def _ramp(config: Train, sequence: int) -> Ramp:
    ramp, first = config.batch.ramp, config.batch.in_tokens(sequence)
    if ramp is None:
        return Ramp(first)
    return Ramp(first, ramp.every, ramp.factor, ramp.most)
