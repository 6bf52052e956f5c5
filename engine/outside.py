"""A train stage by a library's own loop, from its beginning to its end: it cannot be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from engine.artifact import Artifact
from engine.component import Progress
from engine.data.dataset import TrainingData
from engine.objective import BaseTrainer, Job
from engine.spec import Train

if TYPE_CHECKING:
    from engine.run import StageContext


def train_outside(
    context: StageContext,
    config: Train,
    objective: BaseTrainer,
    model: nn.Module,
    data: TrainingData,
    sequence: int,
    tell: Callable[..., None],
) -> dict[str, Any]:
    """Trains and writes the artefacts; gives what stage.json keeps of it."""
    run, name, optimizer = context.run, context.stage, cast("Any", config.optimizer)
    path = run.folder.path / name
    if (path / "library").exists():
        kind = getattr(config.objective, "type", "")
        run.log.warn(f"'{kind}' cannot be resumed: training begins anew", stage=name)
    run.process.barrier()
    (path / "library").mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    now = Progress(0, 0, 0.0, 0.0, config.budget)

    def log(at: Progress, figures: Mapping[str, float]) -> None:
        nonlocal now
        now = replace(at, seconds=time.monotonic() - started)
        event = run.log.emit("step", stage=name, step=at.step, tokens=at.tokens, **figures)
        run.log.display.progress(name, min(at.reached(config.budget), 0.999), 1.0)
        tell("engine_step_finished", event=event)

    objective.train(
        Job(
            model=model.to(run.process.device),
            tokenizer=context.tokenizer(),
            examples=data.examples(),
            examples_per_step=config.batch.examples or max(1, config.batch.tokens // sequence),
            budget=config.budget,
            lr=optimizer.lr,
            optimizer=run.build("optimizer", config.optimizer, context),
            schedule=run.build("schedule", optimizer.schedule, context),
            seed=run.spec.seed,
            folder=str(path / "library"),
            log=log,
        )
    )
    run.log.display.progress(name, 1.0, 1.0)
    for folder, trained in {"final": model, **objective.others()}.items():
        if run.process.rank == 0:
            weights = trained.state_dict().items()
            Artifact.save(path / folder, trained, weights, context.tokenizer())
    run.process.barrier()
    return {
        "budget": str(config.budget),
        "steps": now.step,
        "tokens": now.tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_seconds": round(now.seconds, 1),
        "scores": [],
    }
