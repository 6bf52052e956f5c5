"""Assembles a train stage from its components, runs the loop, and saves the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.contracts.component_config import EvaluatorConfig
from engine.contracts.model_sizes import micro_rows
from engine.contracts.objective import Objective
from engine.contracts.optimizer import Adapter
from engine.contracts.spec import (
    BatchSize,
    Checkpoints as CheckpointConfig,
    Train,
    names_of,
)
from engine.contracts.strategy import Strategy
from engine.data.examples import TrainingData
from engine.data.opening import opening
from engine.evaluation import Measured, evaluate
from engine.hardware.compiling import are_full, eager
from engine.modeling.heads import attend_alike
from engine.modeling.weight_types import TYPES
from engine.runs.automatic import choose_compile
from engine.runs.components import used_plugins
from engine.runs.contamination.touched import touched_items, touched_texts, warn_of_touched
from engine.runs.context import RunContext
from engine.runs.external_loop import train_outside
from engine.runs.train_inputs import TrainInputs, open_inputs
from engine.storage import run_folder as folders
from engine.storage.checkpoints import Checkpoints, Saved
from engine.storage.model_folder import Artifact
from engine.training.assembly import TrainingParts, assemble_training
from engine.training.loop import Loop
from engine.training.loop_plan import Evaluation, Outcome, Plan, Ramp
from engine.training.model_flops import (
    body_parameters,
    counted,
    measured_length,
    multiplied,
    overhead,
)
from engine.training.penalties import Named
from engine.training.utilisation import peak_tokens

_KEPT_EXAMPLES = 1000
"""Examples that an objective may read again when its model is finished."""
_LOOKED_AT = 8
"""Examples that show whether rows fill the sequence."""
_EXACT_WITH = ("training-engine", "torch", "transformers", "numpy")
"""Distributions whose version may change the numbers."""


def train(
    run: RunContext, name: str, config: Train, tell: Callable[..., None]
) -> tuple[str, dict[str, Any]]:
    """Runs a train stage; returns its status and its summary for stage.json."""
    inputs = open_inputs(run, name, config)
    folder = run.folder.path / name
    if inputs.config.objective.external_loop:
        summary = train_outside(inputs, tell)
        final = folders.fingerprint(folder / "final" / "manifest.json")
        return "done", {**summary, "fingerprint": final}
    given = inputs.config.model.trained_adapter
    adapter: Adapter | None = run.build("adapter", given, inputs.context) if given else None
    exported = _without_weights(inputs.model) if adapter else inputs.model
    parts, figures = _parts(run, inputs, adapter, tell)
    loop = assemble_training(parts)
    run.log.emit("training", stage=name, **figures)
    settings = inputs.config.model_dump(mode="json")
    settings |= {name: figures[name] for name in ("precision", "compile")}
    kernels = eager if parts.plan.compile else nullcontext
    with kernels():
        outcome = _run(loop, parts, settings)
        if outcome.status != "done":
            return outcome.status, {}
        _publish(parts, exported, adapter)
    run.process.barrier()
    return "done", {
        "budget": str(config.budget),
        "steps": outcome.state.step,
        "tokens": outcome.state.tokens,
        "parameters": figures["parameters"],
        "training_seconds": round(outcome.state.seconds, 1),
        "opening": opening(inputs.data, inputs.context.tokenizer()),
        "scores": [{"model": name, **asdict(score)} for score in outcome.scores],
        "fingerprint": folders.fingerprint(folder / "final" / "manifest.json"),
    }


def _parts(
    run: RunContext, inputs: TrainInputs, adapter: Adapter | None, tell: Callable[..., None]
) -> tuple[TrainingParts, dict[str, Any]]:
    """The parts of the training, and the figures of its first event."""
    config, context, objective = inputs.config, inputs.context, inputs.objective
    model, data, sequence = inputs.model, inputs.data, inputs.sequence
    name, precision = context.stage, context.precision
    frozen = _frozen(objective.freeze(model), model, precision, run.process.device)
    objective.attach(model)
    callbacks = [run.build("callback", c, context) for c in config.callbacks]
    strategy: Strategy = objective.strategy(
        lambda: run.build("strategy", config.strategy, context),
        lambda: adapter.merge(copy.deepcopy(model)) if adapter else model,
        callbacks,
        precision,
    )
    # Counted before a strategy shards them.
    parameters, body = sum(p.numel() for p in model.parameters()), body_parameters(model)
    matrices = multiplied(model)
    device = run.process.device.type
    length = measured_length(config.objective.batch_work(), data, objective, sequence)
    flops = counted(run.spec.stages, name, config, model, length, data.epoch_size, sequence, device)
    compiled = choose_compile(
        run, name, config, flops.model.total, alike=_alike(config, objective, data, sequence)
    )
    plan = Plan(
        stage=name,
        seed=run.spec.seed_of(name),
        sequence=sequence,
        micro_rows=micro_rows(config.batch.micro_tokens, sequence),
        ramp=_ramp(config.batch, sequence),
        budget=config.budget,
        lr=config.optimizer.lr,
        clip=config.clip,
        checkpoint_every=config.checkpoint.every,
        evaluations=_evaluations(run, inputs, strategy),
        check_every=config.check_replicas,
        versions=_versions(run, name),
        inexact=run.inexact,
        inputs=inputs.digests(),
        compile=compiled,
        overhead=overhead(matrices.number, matrices.weights, device),
        peak_tokens=peak_tokens(run.process, precision, flops.each.total),
    )
    parts = TrainingParts(
        plan=plan,
        context=context,
        process=run.process,
        log=run.log,
        folder=run.folder.path / name,
        data=data,
        model=model,
        objective=objective,
        strategy=strategy,
        optimizer=run.build("optimizer", config.optimizer, context),
        schedule=run.build("schedule", config.optimizer.schedule, context),
        checkpoints=_checkpoints(run, name, config.checkpoint, tell),
        callbacks=callbacks,
        penalties=[
            Named(called, given, run.build("penalty", given, context))
            for called, given in zip(names_of(config.penalties), config.penalties, strict=True)
        ],
        frozen=frozen,
        activation_checkpointing=config.activation_checkpointing,
        offload_activations=config.offload_activations,
        ema=config.ema,
        on_step=lambda event: tell("engine_step_finished", event=event),
    )
    return parts, {
        "precision": precision,
        "compile": compiled,
        "parameters": parameters,
        "body_parameters": body,
        "rows": data.epoch_size,
        "flops": flops.model.total,
        "executed_flops": flops.executed.total,
        "flops_from": flops.source,
        "segments": data.mixture.segments,
    }


def _run(loop: Loop, parts: TrainingParts, settings: Mapping[str, Any]) -> Outcome:
    """Runs the loop between the callbacks' start and finish."""
    with ExitStack() as stack:
        stack.callback(parts.checkpoints.close)
        for callback in parts.callbacks:
            callback.stage_started(parts.plan.stage, parts.folder, settings)
            stack.callback(callback.stage_finished)
        return loop.run()


def _publish(parts: TrainingParts, exported: nn.Module, adapter: Adapter | None) -> None:
    """Saves the models: ``exported``, with what the objective adds to its configuration, and others."""
    context, strategy = parts.context, parts.strategy
    tokenizer = context.tokenizer()
    with strategy.inference() as finished:
        lm = context.language_model(finished, tokenizer, context=parts.plan.sequence)
        kept = parts.objective.keep(lm, parts.data.examples(_KEPT_EXAMPLES))
    cast("Any", exported).config.update(kept)
    rank = parts.process.rank
    _save(rank, parts.folder / "final", exported, strategy.export(), tokenizer, adapter)
    for other, built, weights in strategy.exports():
        _save(rank, parts.folder / other, built, weights, tokenizer)


def _checkpoints(
    run: RunContext, name: str, kept: CheckpointConfig, tell: Callable[..., None]
) -> Checkpoints:
    def saved(checkpoint: Saved) -> None:
        run.log.emit("checkpoint", stage=name, step=checkpoint.step)
        folder = str(checkpoint.folder)
        tell("engine_checkpoint_saved", stage=name, step=checkpoint.step, folder=folder)

    return Checkpoints(
        run.folder.path / name / "checkpoints",
        keep=kept.keep,
        background=kept.background,
        rank=run.process.rank,
        on_saved=saved,
    )


def _evaluations(run: RunContext, inputs: TrainInputs, strategy: Strategy) -> list[Evaluation]:
    context, evaluate_configs = inputs.context, inputs.config.evaluate
    texts = touched_texts(run.folder.path, run.spec, context.stage)

    def evaluation(name: str, config: EvaluatorConfig) -> Evaluation:
        evaluator = run.build("evaluator", config, context)
        touched = touched_items(evaluator, name, texts)

        def score() -> Measured:
            with strategy.inference() as scored:
                measured = evaluate(
                    evaluator,
                    context.language_model(scored, context.tokenizer(), context=inputs.sequence),
                    run.process,
                    limit=config.limit,
                    touched=touched,
                    progress=lambda done, total: run.log.display.progress("evaluate", done, total),
                    warn=partial(run.log.warn, stage=context.stage),
                )
            warn_of_touched(context, name, measured, touched)
            return measured

        return Evaluation(name, config.every, score)

    names = names_of(evaluate_configs)
    return [evaluation(*one) for one in zip(names, evaluate_configs, strict=True)]


def _save(
    rank: int,
    folder: Path,
    model: nn.Module,
    weights: Iterator[tuple[str, Tensor]],
    tokenizer: Any,
    adapter: Adapter | None = None,
) -> None:
    """Saves ``weights`` as ``model``, whose own are not read, with an adapter merged; collective."""
    if rank:
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
    """A copy without weights, to be filled after a strategy has sharded the model's own."""
    empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, dict(empty))


def _frozen(
    models: Mapping[str, nn.Module], learning: nn.Module, precision: str, device: torch.device
) -> dict[str, nn.Module]:
    """Casts frozen models to the precision of the learning one, so that both round alike, and gives
    those of the same architecture its attention.

    Buffers are not cast: the frequencies of rotary embeddings would become too inaccurate.
    """
    for model in models.values():
        model.to(device).eval().requires_grad_(False)
        attend_alike(model, learning)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(TYPES[precision])
    return dict(models)


def _alike(config: Train, objective: Objective, data: TrainingData, sequence: int) -> bool:
    """Whether layers can be compiled: rows fill the sequence, judged by the first examples, which
    answers of the model never do, and no penalty reads modules, which compiled layers hide."""
    if objective.unbatched or any("modules" in penalty.inputs for penalty in config.penalties):
        return False
    first = data.examples(_LOOKED_AT)
    return are_full([objective.collate([example]) for example in first], sequence)


def _versions(run: RunContext, stage: str) -> dict[str, str]:
    """Versions of the distributions that may change a stage's numbers."""
    plugins = used_plugins(run.spec, stage, run.loaded.plugins).values()
    fixed = {name: metadata.version(name) for name in _EXACT_WITH}
    return fixed | dict(made_by.split(" ", 1) for made_by in plugins)


def _ramp(batch: BatchSize, sequence: int) -> Ramp:
    ramp, first = batch.ramp, batch.in_tokens(sequence)
    if ramp is None:
        return Ramp(first)
    return Ramp(first, ramp.every, ramp.factor, ramp.most)
