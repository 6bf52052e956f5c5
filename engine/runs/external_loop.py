"""A train stage run by a library's own loop from beginning to end, which cannot be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from engine.contracts.objective import ExternalLoop, Job
from engine.contracts.optimizer import Progress
from engine.runs.train_inputs import TrainInputs
from engine.storage.model_folder import Artifact


def train_outside(inputs: TrainInputs, tell: Callable[..., None]) -> dict[str, Any]:
    """Trains and saves the models; returns the summary for stage.json."""
    config, context, model = inputs.config, inputs.context, inputs.model
    objective: ExternalLoop = inputs.objective
    run, name, optimizer = context.run, context.stage, config.optimizer
    path = run.folder.path / name
    if (path / "library").exists():
        kind = config.objective.type_name
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
            examples=inputs.data.examples(),
            examples_per_step=config.batch.examples
            or max(1, config.batch.tokens // inputs.sequence),
            budget=config.budget,
            lr=optimizer.lr,
            optimizer=run.build("optimizer", config.optimizer, context),
            schedule=run.build("schedule", optimizer.schedule, context),
            seed=context.seed,
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
