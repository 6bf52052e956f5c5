"""Terms of the loss that depend on parameters, added to the gradients of a strategy's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from engine.contracts.strategy import ParameterTerm


class ParameterTerms:
    """The parameter terms of a stage, for float32 weights that a strategy holds whole or in parts.

    ``cut`` gives this rank's part of a whole tensor of a named parameter; ``copies``: how many ranks
    hold the same parts.
    """

    def __init__(
        self,
        terms: Sequence[ParameterTerm],
        names: Sequence[str],
        device: torch.device,
        *,
        cut: Callable[[str, Tensor], Tensor] = lambda name, whole: whole,
        copies: int = 1,
    ) -> None:
        self._names, self._copies = list(names), copies
        self._terms = [
            (term, [_parts(name, term.kept.get(name, {}), cut, device) for name in names])
            for term in terms
        ]

    def add_gradients(
        self, weights: Sequence[Tensor], scale: Tensor | float = 1.0
    ) -> dict[str, Tensor]:
        """Adds ``scale`` times the terms' gradients to ``grad`` of the weights, ordered as the names.

        To be called once a step, after the gradients have been summed over ranks. Returns, by term,
        what adds up to the term over all ranks.
        """
        return {
            term.name: self._added(term, kept, weights, scale) / self._copies
            for term, kept in self._terms
        }

    def _added(
        self,
        term: ParameterTerm,
        kept: Sequence[Mapping[str, Tensor]],
        weights: Sequence[Tensor],
        scale: Tensor | float,
    ) -> Tensor:
        total = torch.zeros((), device=weights[0].device)
        for name, weight, beside in zip(self._names, weights, kept, strict=True):
            leaf = weight.detach().requires_grad_()
            loss = term.penalty.parameter_loss(name, leaf, beside)
            if loss is None or not loss.requires_grad:
                continue
            loss = loss * term.weight
            (gradient,) = torch.autograd.grad(loss, leaf)
            gradient = gradient * scale
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
            total += loss.detach()
        return total


def _parts(
    name: str,
    kept: Mapping[str, Tensor],
    cut: Callable[[str, Tensor], Tensor],
    device: torch.device,
) -> dict[str, Tensor]:
    return {key: cut(name, whole).to(device) for key, whole in kept.items()}
