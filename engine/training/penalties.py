"""The penalties of a train stage: what they read of forward passes, and their terms of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.contracts.batch import Batch, ForwardPass, Loss, Penalty
from engine.contracts.component_config import PenaltyConfig
from engine.contracts.strategy import ParameterTerm, Strategy
from engine.errors import RunError
from engine.modeling.heads import backbone, reads_packed

_REAL = "real_tokens"


@dataclass(frozen=True, slots=True)
class Named:
    """A penalty with its name and its configuration."""

    name: str
    config: PenaltyConfig
    penalty: Penalty

    @property
    def term(self) -> str:
        """Its name among the terms of the loss."""
        return f"penalty/{self.name}"


class Penalties:
    """The penalties of a stage that trains ``model``, whole and not yet divided.

    Raises RunError where a penalty names a module that the model lacks, or reads modules of a model
    that computes packed documents in rows of their own.
    """

    def __init__(self, penalties: Sequence[Named], model: nn.Module) -> None:
        self._all = penalties
        self._forward = [p for p in penalties if p.config.inputs & {"hidden", "modules"}]
        watched = {p.name: list(p.penalty.start(model)) for p in penalties}
        self._watch = _Watch(model, watched)
        self.parameter_terms = [
            ParameterTerm(p.term, p.config.weight, p.penalty, _kept(p.penalty, model))
            for p in penalties
            if "parameters" in p.config.inputs
        ]

    def around(self, loss: Loss) -> Loss:
        """The loss with the terms of forward passes."""
        return _Penalised(loss, self._forward, self._watch) if self._forward else loss

    def counted(self, batches: Sequence[Batch]) -> list[Batch]:
        """The micro-batches with the counts of the terms, and with their real tokens marked."""
        if not self._forward:
            return list(batches)
        return [
            replace(
                batch,
                targets={**batch.targets, _REAL: real_tokens(batch)},
                counts={**batch.counts, **{p.term: batch.tokens for p in self._forward}},
            )
            for batch in batches
        ]

    def forward_backward(
        self, strategy: Strategy, batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Strategy`. Raises RunError if the strategy leaves a term out."""
        for one in self._all:  # forgets what was measured in a check for faults
            one.penalty.measured()
        sums = strategy.forward_backward(batches, counts)
        for term in (*(p.term for p in self._forward), *(t.name for t in self.parameter_terms)):
            if term not in sums:
                raise RunError(
                    f"the strategy left {term} out of the loss", hint="use another strategy"
                )
        return sums

    def end_step(
        self, all_sum: Callable[[Mapping[str, float]], Mapping[str, float]], *, skipped: bool
    ) -> None:
        """Updates the penalties with what they measured, which ``all_sum`` sums over ranks."""
        for one in self._all:
            measured = dict(one.penalty.measured())
            summed = all_sum(measured) if measured else {}
            if not skipped:
                one.penalty.update(summed)

    def state(self) -> dict[str, Any]:
        """The penalties' states by name."""
        return {one.name: one.penalty.state() for one in self._all}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
        for one in self._all:
            if one.name in state:
                one.penalty.load(state[one.name])


class _Penalised(Loss):
    """A loss with penalties that read forward passes."""

    def __init__(self, inner: Loss, penalties: Sequence[Named], watch: _Watch) -> None:
        self._inner, self._penalties, self._watch = inner, penalties, watch

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """See :class:`engine.Loss`."""
        return self._inner.annotate(batch, frozen)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """See :class:`engine.Loss`."""
        seen = self._watch.taken()
        terms = dict(self._inner.loss(hidden_BTD, head, batch))
        for one in self._penalties:
            outputs = seen.get(one.name, {})
            forward = ForwardPass(outputs, hidden_BTD, head, batch, batch.targets[_REAL])
            loss = one.penalty.output_loss(forward)
            if loss is None:
                raise RunError(f"penalty '{one.name}' reads forward passes, but has no output_loss")
            terms[one.term] = loss * one.config.weight
        return terms


class _Watch:
    """Collects outputs of modules in a forward pass of training.

    Not in the backward pass, where layers may be computed again, and not at inference.
    """

    def __init__(self, model: nn.Module, names: Mapping[str, Sequence[str]]) -> None:
        self._seen: dict[str, dict[str, Any]] | None = None
        if not any(names.values()):
            return
        if not reads_packed(model):
            told = next(name for name, modules in names.items() if modules)
            raise RunError(
                f"penalty '{told}' reads modules, which this model runs on other rows than the "
                "batch's, as it has no position ids",
                hint="leave the penalty out, or use another model",
            )
        backbone(model).register_forward_pre_hook(self._opening())
        for name, modules in names.items():
            for path in modules:
                _module(model, name, path).register_forward_hook(self._seeing(name, path))

    def taken(self) -> dict[str, dict[str, Any]]:
        """Outputs of the last forward pass, by penalty and module, which are then forgotten."""
        seen, self._seen = self._seen or {}, None
        return seen

    # Functions and not methods, as a copy of the model would copy an object that they belong to.
    def _opening(self) -> Callable[..., None]:
        def opened(module: nn.Module, _: Any) -> None:
            self._seen = {} if module.training and torch.is_grad_enabled() else None

        return opened

    def _seeing(self, name: str, path: str) -> Callable[..., None]:
        def seen(_: nn.Module, __: Any, output: Any) -> None:
            if self._seen is None:
                return
            outputs = self._seen.setdefault(name, {})
            if path in outputs:
                raise RunError(
                    f"penalty '{name}': {path} runs twice in a forward pass of the model"
                )
            outputs[path] = output

        return seen


def real_tokens(batch: Batch) -> Tensor:
    """Which positions ``_BT`` of a micro-batch are no padding.

    Padding is at the end of rows, with position 0. A token with position 0 at the end of a row may be
    a document of one token, too: those with an id other than 0 count first, and the rest are like
    padding, so that it does not matter which of them count. Raises RunError for a batch that pads
    otherwise.
    """
    if not {"input_ids", "position_ids"} <= batch.inputs.keys():
        raise RunError("a penalty needs micro-batches with input_ids and position_ids")
    ids, places = (batch.inputs[name].cpu().numpy() for name in ("input_ids", "position_ids"))
    column = np.arange(ids.shape[1])
    certain = column < _length(places != 0)[:, None]
    likely = column < np.maximum(_length(places != 0), _length(ids != 0))[:, None]
    real = np.zeros_like(certain) if batch.tokens == 0 else certain
    for more in (likely, np.ones_like(likely)):
        missing = batch.tokens - int(real.sum())
        candidates = np.flatnonzero(more & ~real)
        if missing > 0:
            real.flat[candidates[:missing]] = True
    if real.sum() != batch.tokens:
        raise RunError(
            "a penalty cannot tell which positions are padding: a micro-batch of "
            f"{batch.tokens} tokens has {int(real.sum())} in documents",
            hint="pad rows at their end with input_ids and position_ids of 0",
        )
    return torch.from_numpy(real)


def _length(marked: Any) -> Any:
    """For each row, the number of columns up to the last one that is marked."""
    return np.where(marked.any(1), marked.shape[1] - marked[:, ::-1].argmax(1), 0)


def _kept(penalty: Penalty, model: nn.Module) -> dict[str, Mapping[str, Tensor]]:
    trained = ((name, p.detach()) for name, p in model.named_parameters() if p.requires_grad)
    with torch.no_grad():
        kept = {name: penalty.keep(name, weight) for name, weight in trained}
    # Copies, as a penalty may keep the parameter itself, which training changes.
    return {name: {key: t.clone() for key, t in its.items()} for name, its in kept.items()}


def _module(model: nn.Module, penalty: str, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise RunError(f"penalty '{penalty}': the model has no module '{path}'") from error
