"""Checks that components keep their contracts. Those of data, models, optimizers, strategies, trained
objectives, evaluators and inference are in the modules beside this one.
"""

from __future__ import annotations

import copy
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from engine.contracts.callback import RollBack, Stop
from engine.contracts.component import Kind
from engine.contracts.config import Config
from engine.testing import (
    data,
    evaluation,
    external_loop,
    inference,
    optimization,
    penalties,
    prepared,
    training,
)
from engine.testing.standalone import (
    StandAloneContext,
    require,
    require_json,
)

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


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
    import torch

    given = [dict(row) for row in islice(cycle(context.rows), 5)]
    for row in given:
        wrong = config.check_row(row)
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
    named = isinstance(values, Mapping)
    require(named, f"score gives values by name, not {type(values).__name__}")
    require(values, "there is at least one named value")
    for name, value_N in values.items():
        is_tensor = isinstance(value_N, torch.Tensor)
        require(is_tensor, f"{name} is a {type(value_N).__name__}, not a tensor _N")
        require(tuple(value_N.shape) == (5,), f"{name} has shape {tuple(value_N.shape)}, not _N")
        require(bool(torch.isfinite(value_N).all()), f"{name} is finite")
        alone = [
            reward.score([prompt], [completion], [row])[name]
            for prompt, completion, row in zip(prompts, completions, rows, strict=True)
        ]
        require(
            torch.allclose(torch.cat(alone).float(), value_N.float(), rtol=1e-4, atol=1e-5),
            f"{name} does not depend on what else is in the batch",
        )
    again = new().score(prompts, completions, rows)
    require(
        again.keys() == values.keys()
        and all(torch.allclose(again[n].float(), v.float(), rtol=1e-4) for n, v in values.items()),
        "built again, it gives the same answers the same values under the same names",
    )
    if config.check_row({}) is None:
        try:
            reward.score(prompts[:1], completions[:1], [{}])
        except Exception as error:  # a plugin's class may raise anything
            raise AssertionError(
                f"broken contract: check_row names every column that is needed, but without any, "
                f"{type(error).__name__}: {error}"
            ) from error


def _callback(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = new(), new()
        _start(first, folder)
        limits = [first.spike_limit, *first.spike_limits.values()]
        require(all(isinstance(limit, int | float) for limit in limits), "spike_limit is a number")
        for event in _EVENTS[:_BREAK]:
            _answer(first, event)
        kept = require_json(first.state(), "state(), which checkpoints store")
        _start(second, folder)
        second.load(kept)
        require(second.state() == kept, "state() gives what was loaded")
        for event in _EVENTS[_BREAK:]:
            require(
                _answer(first, event) == _answer(second, event),
                f"resumed, it answers step {event['step']} as if it had not been interrupted",
            )
        require(
            first.state() == second.state(),
            "resumed, it ends in the same state as if it had not been interrupted",
        )
        first.stage_finished()
        second.stage_finished()
        unused = new()
        _start(unused, folder)
        unused.stage_finished()


def _start(callback: Any, folder: str) -> None:
    callback.stage_started("base", Path(folder), {"budget": "12 steps", "optimizer": {"lr": 1e-3}})


def _answer(callback: Any, event: Mapping[str, Any]) -> Stop | RollBack | None:
    tell = callback.scored if event["event"] == "score" else callback.step_finished
    answer = tell(event)
    require(
        answer is None or isinstance(answer, Stop | RollBack),
        f"{answer!r} is neither Stop, RollBack nor None",
    )
    return answer  # type: ignore[no-any-return]


def _events() -> Sequence[Mapping[str, Any]]:
    """Twelve steps, one of them skipped, with a score after every fourth."""
    events: list[Mapping[str, Any]] = []
    for step in range(1, 13):
        common = {"stage": "base", "time": 1.7e9 + step, "step": step}
        skipped = step == 5
        events.append(
            {
                "event": "step",
                **common,
                "tokens": 480 * step,
                "loss": math.nan if skipped else 5.0 / step,
                "lr": 1e-3,
                "grad_norm": math.inf if skipped else 1.0,
                "skipped": skipped,
                "tokens_per_second": 1000.0,
                "memory": 2**30,
            }
        )
        if step % 4 == 0:
            score = {"metric": "perplexity", "value": 50.0 / step, "stderr": 0.1, "n": 4}
            better = {"higher_is_better": False}
            events.append(
                {"event": "score", **common, "model": "base", "evaluator": "kit", **score, **better}
            )
    return events


_EVENTS = _events()
_BREAK = 8
"""After step 7, so that counters which the skipped step resets have counted again."""
_CONTRACTS: Mapping[Kind, Callable[[Callable[[], Any], Any, StandAloneContext], None]] = {
    "data-source": data.data_source,
    "processor": data.processor,
    "corpus-step": data.processor,
    "executor": data.executor,
    "tokenizer": data.tokenizer,
    "model": training.model,
    "adapter": training.adapter,
    "strategy": optimization.strategy,
    "optimizer": optimization.optimizer,
    "schedule": optimization.schedule,
    "objective": _objective,
    "penalty": penalties.penalty,
    "reward": _reward,
    "evaluator": evaluation.evaluator,
    "callback": _callback,
    "inference": inference.inference,
}
