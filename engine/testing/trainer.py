"""The contract of objectives that bring a library's loop, carried out on a tiny stage."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from engine.artifact import Artifact
from engine.component import Example, Progress
from engine.config import Amount, ObjectiveConfig
from engine.objective import Job
from engine.testing.online import EVENT, require_figures
from engine.testing.standalone import TINY_OPTIMIZER, StandAloneContext, require, tiny_model
from engine.testing.training import examples_of, unbatched

_BUDGET = Amount(4, "steps")
_FINAL = "final"


def trainer(built: Any, config: ObjectiveConfig, context: StandAloneContext) -> None:
    """It trains in place until the budget is spent, tells of its steps, and leaves what it trained."""
    examples: list[Example] = []
    for schema in sorted(config.takes):
        examples = examples_of(built, schema, context)
        unbatched(examples)
    model, untouched = tiny_model(context), tiny_model(context)
    told: list[Progress] = []

    def log(at: Progress, figures: Mapping[str, float]) -> None:
        require_figures(figures, EVENT)
        told.append(at)

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
        require(told, "log is told of its steps")
        require(
            all(a.step < b.step and a.tokens <= b.tokens for a, b in pairwise(told)),
            "steps and tokens go up from one call of log to the next",
        )
        require(told[-1].reached(_BUDGET) >= 1, f"after {told[-1].step} steps it is not done")
        pairs = list(zip(model.parameters(), untouched.parameters(), strict=True))
        require(all(bool(p.isfinite().all()) for p, _ in pairs), "weights stay finite")
        require(not all(torch.equal(p.cpu(), q) for p, q in pairs), "job.model itself is trained")
        for name, other in built.others().items():
            require(name != _FINAL, f"'{_FINAL}' is the stage's own model")
            weights = other.state_dict().items()
            Artifact.save(Path(folder, name), other, weights, context.tokenizer()).model()
