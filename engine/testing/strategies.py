"""Checks of strategies, on one process and on two: they train as one process does with plain torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from engine.contracts.component_config import StrategyConfig
from engine.errors import EngineError
from engine.testing.elsewhere import elsewhere
from engine.testing.requirements import require, works
from engine.testing.standalone import StandAloneContext, tiny_model
from engine.testing.steps import CASES, STEPS, Steps, train, weights_of

_EMA = 0.5
_FAR = 0.02
"""How far weights may be from the plain ones, as a share of the way that these have gone: rounding may
turn an optimizer's step where a gradient is almost 0."""


def strategy(new: Callable[[], Any], config: StrategyConfig, context: StandAloneContext) -> None:
    """Checks steps, spikes, exact resume, evaluation and export on one process, and steps on two."""
    require(config.check_processes(1) is None, "the kit checks it on one process")
    kit = Steps(context)
    first, second = kit.prepared(new()), kit.prepared(new())
    require((first.data_rank, first.data_size) == (0, 1), "one process holds all the data")
    require(
        first.all_sum({"b": 2.0, "a": 1.0}) == {"b": 2.0, "a": 1.0},
        "all_sum over one rank is that rank's",
    )
    start = weights_of(first)
    require(
        set(start) == set(tiny_model(context).state_dict()),
        "export names the weights as transformers does",
    )
    whole, parts = kit.batches(0), kit.batches(0, 2)
    train(first, whole)
    train(second, parts)
    require(not _same(weights_of(first), start), "a step changes the weights")
    require(
        _same(weights_of(first), weights_of(second), tolerance=1e-4),
        "accumulated over micro-batches, a step is that of one batch",
    )
    before = weights_of(first)
    require(bool(train(first, whole, limit=0.0)[1].skipped), "a norm above the limit is skipped")
    require(_same(weights_of(first), before), "a skipped step changes no weight")
    _check_plain(new, kit)
    for ema in (None, _EMA):
        with suppress(EngineError):  # of a strategy that refuses averages
            kit.prepared(new(), ema=ema)
            _check_resumed(new, kit, ema)
            _check_evaluated(new, kit, ema)
    if config.check_processes(2) is None:
        _check_ranks(new, kit, config, context)


def _check_plain(new: Callable[[], Any], kit: Steps) -> None:
    """Compares each case with plain training; a case that the strategy refuses is left out."""
    for case in CASES:
        built = new()
        try:
            kit.prepared(built, case)
        except EngineError:
            continue
        plain = kit.prepared(kit.plain(), case)
        start = weights_of(plain)
        found = works(case.name, lambda built=built, case=case: kit.trained(built, case))  # type: ignore[misc]
        _compare(case.name, found, kit.trained(plain, case))
        _compareweights_of(case.name, weights_of(built), weights_of(plain), start)


def _compare(where: str, found: Sequence[Any], expected: Sequence[Any]) -> None:
    for number, (one, other) in enumerate(zip(found, expected, strict=True), 1):
        for what, value, right in zip(("sums", "norm", "skipped"), one, other, strict=True):
            same = value == right
            if what == "norm":
                same = math.isclose(value, right, rel_tol=1e-3)
            elif what == "sums":
                same = value.keys() == right.keys() and all(
                    math.isclose(value[n], right[n], rel_tol=1e-3) for n in right
                )
            require(
                same,
                f"{where}, step {number} has the {what} {right} of plain training, not {value}",
            )


def _compareweights_of(
    where: str,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
) -> None:
    gone = sum(float((expected[n] - start[n]).square().sum()) for n in expected) ** 0.5
    apart = {n: float((found[n] - expected[n]).square().sum()) ** 0.5 for n in expected}
    worst = max(apart, key=lambda name: apart[name])
    require(
        math.hypot(*apart.values()) <= _FAR * gone,
        f"{where}, steps give the weights of plain training, but {worst} is {apart[worst]:.3g} away, "
        f"where all weights together go {gone:.3g}",
    )


def _check_resumed(new: Callable[[], Any], kit: Steps, ema: float | None) -> None:
    """Checks that a state which is loaded in place goes on to the bit."""
    first, resumed = kit.prepared(new(), ema=ema), kit.prepared(new(), ema=ema)
    train(first, kit.batches(0))
    kept = copy.deepcopy(first.state())
    state = resumed.state()
    _fill(state, kept)
    resumed.load(state)
    for built in (first, resumed):
        train(built, kit.batches(1))
    averaged = "" if ema is None else ", averaged weights included"
    require(
        _same(weights_of(first), weights_of(resumed)),
        f"from its saved state the next step is the same to the bit{averaged}",
    )


def _check_evaluated(new: Callable[[], Any], kit: Steps, ema: float | None) -> None:
    """Checks that what is evaluated is exported, and that training then goes on as before."""
    built, other = kit.prepared(new(), ema=ema), kit.prepared(new(), ema=ema)
    for one in (built, other):
        train(one, kit.batches(0))
    ids_BT = torch.arange(8)[None]
    with built.inference() as scored, torch.no_grad():
        require(not scored.training, "inference gives the model in evaluation mode")
        logits = scored(input_ids=ids_BT).logits.clone()
    require(scored.training, "after inference the model is in training mode again")
    exported = tiny_model(kit.context).eval()
    exported.load_state_dict(weights_of(built))
    with torch.no_grad():
        same = torch.allclose(exported(input_ids=ids_BT).logits, logits, rtol=1e-3, atol=1e-4)
    averaged = "" if ema is None else ", the averages where there are any"
    require(same, f"export gives the weights of the model that inference evaluates{averaged}")
    for one in (built, other):
        train(one, kit.batches(1))
    require(
        _same(weights_of(built), weights_of(other)),
        "after inference the next step is that of a run which does not evaluate",
    )


def on_a_rank(new: Callable[[], Any]) -> dict[str, Any]:
    """What a rank finds: its share of the data, its steps, and the weights then."""
    kit = Steps(StandAloneContext())
    built = kit.prepared(new())
    share = (built.data_rank, built.data_size, built.ranks_per_sample)
    total = built.all_sum({"value": built.data_rank + 1.0})["value"]
    steps = []
    for step in range(STEPS - 1):
        own = kit.examples(step)[built.data_rank :: built.data_size]
        sums, done = train(built, [kit.objective.collate([example]) for example in own])
        figures = built.all_sum({name: float(value) for name, value in sums.items()})
        steps.append((figures, float(done.grad_norm), bool(done.skipped)))
    weights = {name: weight.numpy() for name, weight in weights_of(built).items()}
    return {"share": share, "total": total, "steps": steps, "weights": weights}


def _check_ranks(
    new: Callable[[], Any], kit: Steps, config: StrategyConfig, context: StandAloneContext
) -> None:
    """Compares two processes, each of which reads its share of the data, with one that reads all."""
    plain = kit.prepared(kit.plain())
    start = weights_of(plain)
    expected = kit.trained(plain, CASES[0])
    sent = StandAloneContext(seed=context.seed)
    found = elsewhere(on_a_rank, "strategy", config, sent, ranks=2)
    shares = [rank["share"] for rank in found]
    _, size, per_sample = shares[0]
    places = sorted(range(size)) * per_sample
    require(
        size * per_sample == 2 and sorted(rank for rank, _, _ in shares) == sorted(places),
        f"two processes divide the data: (data_rank, data_size, ranks_per_sample) are {shares}",
    )
    total = size * (size + 1) / 2
    for number, rank in enumerate(found):
        where = f"on rank {number} of two processes"
        require(
            math.isclose(rank["total"], total),
            f"{where}, all_sum gives the sum over all data ranks, {total:g}, not {rank['total']:g}",
        )
        _compare(where, rank["steps"], expected)
        weights = {name: torch.from_numpy(weight) for name, weight in rank["weights"].items()}
        _compareweights_of(where, weights, weights_of(plain), start)


def _same(
    weights: Mapping[str, Tensor], others: Mapping[str, Tensor], tolerance: float = 0.0
) -> bool:
    return all(
        torch.allclose(weight, others[name], rtol=tolerance, atol=tolerance)
        for name, weight in weights.items()
    )


def _fill(state: dict[str, Any], kept: Mapping[str, Any]) -> None:
    """Loads a state as a checkpoint does: tensors in place, other values by assignment."""
    for name, value in kept.items():
        if isinstance(value, Mapping):
            _fill(state[name], value)
        elif torch.is_tensor(value):
            with torch.no_grad():
                state[name].copy_(value)
        else:
            state[name] = value
