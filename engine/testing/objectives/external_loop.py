"""Checks, on a tiny stage, that an objective with a library's own loop keeps its contract."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from engine.contracts.amounts import Amount
from engine.contracts.batch import Example
from engine.contracts.component_config import ObjectiveConfig
from engine.contracts.objective import Job
from engine.contracts.optimizer import Progress
from engine.storage.model_folder import Artifact
from engine.testing.requirements import require, require_json
from engine.testing.standalone import TINY_OPTIMIZER, StandAloneContext, tiny_model
from engine.testing.training import examples_of, unbatched

EVENT = ("event", "time", "stage", "step", "tokens")
"""Fields that every step's event has."""
_BUDGET = Amount(4, "steps")
_FINAL = "final"


def trainer(built: Any, config: ObjectiveConfig, context: StandAloneContext) -> None:
    """Checks that it trains the job's model in place until the budget is spent, and logs its steps."""
    examples: list[Example] = []
    for schema in sorted(config.takes):
        examples = examples_of(built, schema, context)
        unbatched(examples)
    model, untouched = tiny_model(context), tiny_model(context)
    logged: list[Progress] = []

    def log(at: Progress, figures: Mapping[str, float]) -> None:
        require_figures(figures, EVENT)
        logged.append(at)

    with tempfile.TemporaryDirectory() as folder:
        built.train(
            Job(
                model=model,
                tokenizer=context.tokenizer(),
                examples=examples,
                examples_per_step=len(examples),
                budget=_BUDGET,
                lr=1e-2,
                optimizer=context.build("optimizer", TINY_OPTIMIZER),
                schedule=lambda progress: 1.0,
                seed=context.seed,
                folder=folder,
                log=log,
            )
        )
        require(logged, "it calls job.log for its steps")
        require(
            all(a.step < b.step and a.tokens <= b.tokens for a, b in pairwise(logged)),
            "steps and tokens go up from one call of log to the next",
        )
        steps = logged[-1].step
        require(logged[-1].reached(_BUDGET) >= 1, f"it ends after {steps} steps, before {_BUDGET}")
        pairs = list(zip(model.parameters(), untouched.parameters(), strict=True))
        require(all(bool(p.isfinite().all()) for p, _ in pairs), "weights stay finite")
        require(not all(torch.equal(p.cpu(), q) for p, q in pairs), "job.model itself is trained")
        for name, other in built.others().items():
            require(name != _FINAL, f"'{_FINAL}' is the stage's own model")
            weights = other.state_dict().items()
            Artifact.save(Path(folder, name), other, weights, context.tokenizer()).model()


def require_figures(figures: Mapping[str, float], taken: Collection[str]) -> None:
    """Checks that figures for a step's event are finite numbers, under names that are not taken."""
    for name, value in figures.items():
        require(
            name not in taken, f"a step's event has its own '{name}', not a figure of this name"
        )
        number = isinstance(value, int | float) and math.isfinite(value)
        require(number, f"the figure {name} is {value!r}, not a finite number")
    require_json(dict(figures), "the figures of a step")
