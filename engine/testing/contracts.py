"""Checks that components keep their contracts. Those of data, models, optimizers, strategies, trained
objectives, evaluators and inference are in the modules beside this one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from itertools import cycle, islice
from typing import Any

from engine.contracts.component import Kind
from engine.errors import EngineError
from engine.testing import (
    callbacks,
    data,
    documents,
    evaluation,
    models,
    optimization,
    penalties,
    strategies,
    training,
)
from engine.testing.inference import language_model
from engine.testing.objectives import external_loop, prepared
from engine.testing.requirements import require, works
from engine.testing.standalone import StandAloneContext


def check_component(
    kind: Kind, settings: Mapping[str, Any], context: StandAloneContext | None = None
) -> None:
    """Builds an installed component from its settings in a spec, and checks its contract.

    ``check_component("optimizer", {"type": "lion", "lr": 1e-3})``. Raises AssertionError with the part
    of the contract in :mod:`engine.contracts` that is broken, PluginError for a class without the base
    of its kind, and PluginError or ValidationError for wrong settings.
    """
    context = context or StandAloneContext()
    config = context.config(kind, settings)
    again = type(config).model_validate(config.model_dump(mode="json", exclude_none=True))
    require(again == config, f"resolved.yaml restores {config!r}, not {again!r}")
    _CONTRACTS[kind](lambda: context.component(kind, config), config, context)


def _objective(new: Callable[[], Any], config: Any, context: StandAloneContext) -> None:
    """Checks an external loop, or the examples and micro-batches of an objective.

    Of an objective that does not learn from its examples, such as an online one, only the examples are
    checked: its plugin has a kit for the rest.
    """
    built = new()
    built.check(context.tokenizer())
    if config.external_loop:
        external_loop.trainer(built, config, context)
    elif built.unbatched:
        for schema in sorted(config.takes):
            training.unbatched(training.examples_of(built, schema, context))
    else:
        training.objective(built, config, context)
    prepared.prepared(built, config, context)


def _reward(new: Callable[[], Any], config: Any, context: StandAloneContext) -> None:
    given = [dict(row) for row in islice(cycle(context.rows), 5)]
    for row in given:
        wrong = works("check_row answers for any row", partial(config.check_row, row))
        require(
            wrong is None,
            f"check_row refuses {row}: {wrong}; give StandAloneContext `rows` that it can score",
        )
    rows = copy.deepcopy(given)
    prompts = list(context.documents[:5])
    completions = [*(text[::-1] for text in prompts[1:]), ""]
    reward = new()
    values = reward.score(prompts, completions, rows)
    require(rows == given, "it does not change rows, as other rewards read them as well")
    _check_values(values)
    again = new().score(prompts, completions, rows)
    require(
        again.keys() == values.keys() and all(map(_near, again.values(), values.values())),
        "built again, it gives the same answers the same values under the same names",
    )
    for number, one in enumerate(zip(prompts, completions, rows, strict=True)):
        _check_alone(f"answer {number}", new, one, {n: v[number] for n, v in values.items()})
    turned = completions[::-1]
    later, fresh = (one.score(prompts, turned, rows) for one in (reward, new()))
    require(
        all(map(_near, later.values(), fresh.values())),
        "a value depends on the answer, its prompt and its row, not on answers that were scored before",
    )
    heavier = context.component("reward", config.model_copy(update={"weight": 3 * config.weight}))
    weighed = heavier.score(prompts, completions, rows)
    require(
        all(map(_near, weighed.values(), values.values())),
        "values do not depend on `weight`, by which objectives multiply them",
    )
    turns = [{"role": "user", "content": prompts[0]}, {"role": "assistant", "content": "yes"}]
    with suppress(EngineError):  # of a model that has no chat template
        works(
            "a prompt may be a list of messages",
            lambda: reward.score([turns], completions[:1], rows[:1]),
        )
    for row in ({}, dict.fromkeys(given[0])):
        works("check_row answers for any row", partial(config.check_row, row))
    if config.check_row({}) is None:
        works(
            "check_row names every column that is needed, but without any",
            lambda: reward.score(prompts[:1], completions[:1], [{}]),
        )


def _check_values(values: Any) -> None:
    """Checks the values of five answers."""
    import torch

    require(isinstance(values, Mapping), f"score gives values by name, not {type(values).__name__}")
    require(values, "there is at least one named value")
    for name, value_N in values.items():
        is_tensor = isinstance(value_N, torch.Tensor)
        require(is_tensor, f"{name} is a {type(value_N).__name__}, not a tensor _N")
        require(tuple(value_N.shape) == (5,), f"{name} has shape {tuple(value_N.shape)}, not _N")
        require(
            value_N.is_floating_point(), f"{name} is a tensor of {value_N.dtype}, not of floats"
        )
        require(not value_N.requires_grad, f"{name} has no gradient: compute it without one")
        require(bool(torch.isfinite(value_N).all()), f"{name} is finite")


def _check_alone(which: str, new: Callable[[], Any], one: Any, values: Mapping[str, Any]) -> None:
    """Checks that an answer has the same values without those beside it."""
    prompt, completion, row = one
    alone = new().score([prompt], [completion], [row])
    require(
        alone.keys() == values.keys(),
        f"{which} has the same named values alone, {sorted(alone)}, as beside others, {sorted(values)}",
    )
    for name, value in values.items():
        require(
            _near(alone[name][0], value),
            f"{name} does not depend on what else is in the batch: {which} has {float(value):.6g}, and "
            f"alone {float(alone[name][0]):.6g}",
        )


def _near(one: Any, other: Any) -> bool:
    import torch

    return torch.allclose(one.float(), other.float(), rtol=1e-4, atol=1e-5)


_CONTRACTS: Mapping[Kind, Callable[[Callable[[], Any], Any, StandAloneContext], None]] = {
    "data-source": data.data_source,
    "processor": documents.processor,
    "corpus-step": documents.processor,
    "executor": data.executor,
    "tokenizer": documents.tokenizer,
    "model": models.model,
    "adapter": models.adapter,
    "strategy": strategies.strategy,
    "optimizer": optimization.optimizer,
    "schedule": optimization.schedule,
    "objective": _objective,
    "penalty": penalties.penalty,
    "reward": _reward,
    "evaluator": evaluation.evaluator,
    "callback": callbacks.callback,
    "inference": language_model.inference,
}
