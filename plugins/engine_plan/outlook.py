"""What scaling laws say of a training: its loss, and the best use of its compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine import (
    PUBLISHED_LAWS,
    FittedLaw,
    ModelShape,
    ScalingLaw,
    Situation,
    parameter_count,
)
from engine_plan.forecast import Forecast
from engine_plan.quantities import number
from engine_plan.supply import Supply
from engine_plan.terms import Terms

_FITTED_TO = ((70e6, 16e9), (5e9, 500e9))
"""Parameters and tokens of the runs behind the published laws (Hoffmann et al. 2022, section 3)."""
FLOPS = 6
"""FLOPs for each parameter and token, as laws count them."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best use of ``flops`` = 6·N·D by a law, and its loss there; ``low`` and ``high``: the loss's
    interval of 95 %, if the law has one; ``warnings``: why it may not hold here."""

    law: str
    flops: float
    parameters: float
    tokens: float
    loss: float
    low: float | None = None
    high: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a law says of a stage: ``loss`` of its ``parameters``, as the law counts them, after
    ``tokens``, of which the ``effective`` ones are counted; and the optimum at the same 6·N·D.

    ``others``: the parameters that the law does not count; ``low`` and ``high``: the loss's interval of
    95 %, if the law has one; ``warnings``: why it may not hold here.
    """

    law: str
    counted: str
    parameters: float
    tokens: float
    effective: float
    loss: float
    optimum: Optimum
    others: float = 0
    low: float | None = None
    high: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def excess(self) -> float:
        """The loss above the optimum's."""
        return self.loss - self.optimum.loss


def optimum(name: str, law: ScalingLaw, flops: float) -> Optimum:
    """The best use of so many FLOPs."""
    parameters, tokens = law.optimum(flops)
    return Optimum(name, flops, parameters, tokens, law.loss(parameters, tokens))


def published_optimum(name: str, flops: float) -> Optimum:
    """The best use by a published law, with a warning where its runs were of other sizes."""
    plain = optimum(name, PUBLISHED_LAWS[name], flops)
    return replace(plain, warnings=tuple(_published_doubts(plain)))


def fitted_optimum(name: str, law: FittedLaw, flops: float) -> Optimum:
    """The best use by a fitted law, with its interval and with warnings.

    An interval whose laws count different parameters is not known without a model.
    """
    plain = optimum(name, law.best, flops)
    warnings = [*_far(law, flops)]
    if any(draw.counted != law.best.counted for draw in law.draws):
        warnings.append("no interval: the laws of its interval count different parameters")
        return replace(plain, warnings=tuple(warnings))
    said = law.predict(plain.parameters, plain.parameters, plain.tokens)
    return replace(plain, low=said.low, high=said.high, warnings=tuple(warnings))


def outlooks(
    situation: Situation, found: Forecast, there: Supply | None, terms: Terms
) -> Iterator[Outlook]:
    """What the most trusted published law says, and the user's; nothing of a stage that goes on from
    another model or learns from records, which no law of pre-training describes."""
    train = situation.spec.stages[found.stage].train
    if train is None or train.data.prepare_stage() is None or found.tokens is None:
        return
    if train.model.origin.stage is not None or train.model.origin.path is not None:
        return
    tokens = found.tokens
    fresh = there.effective(tokens) if there else tokens
    name, law = next(iter(PUBLISHED_LAWS.items()))
    plain = _outlook(name, law, found.shape, tokens, fresh)
    yield replace(plain, warnings=tuple(_published_doubts(plain)))
    if terms.law is not None:
        yield _fitted(terms.law, found, tokens, fresh, there)


def body(shape: ModelShape) -> int:
    """Parameters that are neither in the embedding nor in the head."""
    matrices = 1 if shape.tied else 2
    return parameter_count(shape) - matrices * shape.vocabulary * shape.hidden_size


def _outlook(name: str, law: ScalingLaw, shape: ModelShape, tokens: float, fresh: float) -> Outlook:
    parameters = parameter_count(shape) if law.counted == "all" else body(shape)
    best = optimum(name, law, FLOPS * parameters * tokens)
    loss, others = law.loss(parameters, fresh), parameter_count(shape) - parameters
    return Outlook(name, law.counted, parameters, tokens, fresh, loss, best, others)


def _fitted(
    given: tuple[str, FittedLaw], found: Forecast, tokens: float, fresh: float, there: Supply | None
) -> Outlook:
    name, law = given
    worth = (lambda repeats: there.effective(tokens, repeats)) if there else None
    if worth:
        fresh = worth(law.repeats)
    plain = _outlook(name, law.best, found.shape, tokens, fresh)
    said = law.predict(parameter_count(found.shape), body(found.shape), tokens, worth)
    doubts = tuple(_doubts(law, found.flops or 0, there))
    return replace(plain, loss=said.loss, low=said.low, high=said.high, warnings=doubts)


def _published_doubts(plain: Outlook | Optimum) -> Iterator[str]:
    """Why a published law may not hold for a training of this size."""
    sizes = (plain.parameters, plain.tokens)
    if any(not low <= one <= high for one, (low, high) in zip(sizes, _FITTED_TO, strict=True)):
        (small, large), (few, many) = (map(number, pair) for pair in _FITTED_TO)
        yield f"outside that law's runs: {small} to {large} parameters on {few} to {many} tokens"


def _doubts(law: FittedLaw, flops: float, there: Supply | None) -> Iterator[str]:
    """Why a law may not hold for a training with so many FLOPs."""
    yield from _far(law, flops)
    if law.tokenizer and there is None:
        yield "whether its tokenizer is this one is not known before the data is prepared"
    elif law.tokenizer and there and law.tokenizer != there.tokenizer:
        yield "it was fitted with another tokenizer, whose losses are not to be compared"


def _far(law: FittedLaw, flops: float) -> Iterator[str]:
    """How far the FLOPs are outside those of the law's runs."""
    low, high = law.flops
    if flops > high:
        yield f"{number(flops / high)} times the FLOPs of the largest run that it was fitted to"
    elif flops < low:
        yield f"{number(low / flops)} times fewer FLOPs than the smallest run that it was fitted to"
