"""Elastic weight consolidation (Kirkpatrick et al. 2017)."""

from __future__ import annotations

import copy
import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from engine import Context, Penalty, RunError, Text, is_held_out
from engine.modeling import (
    context_of,
    cross_entropy,
    document_tokens,
    head,
    hidden_states,
    is_scalar,
)
from torch import Tensor, nn

from engine_continual.config import ElasticWeights
from engine_continual.sampling import place


class ElasticWeightsPenalty(Penalty):
    """½ Σ F (w − w at the start)² over all trained weights."""

    def __init__(self, config: ElasticWeights, context: Context) -> None:
        self._config, self._context = config, context
        self._fisher: dict[str, Tensor] = {}
        self._measured_on = ""

    def start(self, model: nn.Module) -> Sequence[str]:
        """Measures F on rank 0. Raises RunError for a scalar model and for records without text."""
        if is_scalar(model):
            raise RunError("ewc: a model with a scalar head gives no likelihood of a text")

        def measured() -> tuple[str, dict[str, Tensor]]:
            sequences = self._sequences(context_of(model.config))
            told = hashlib.blake2b(repr(sequences).encode(), digest_size=16).hexdigest()
            return told, fisher(model, sequences, self._context.device)

        self._measured_on, self._fisher = self._context.first(measured)
        return ()

    def keep(self, name: str, weight: Tensor) -> Mapping[str, Tensor]:
        """See :class:`engine.Penalty`: the weights at the start, and F."""
        return {"start": weight, "fisher": self._fisher[name]}

    def parameter_loss(self, name: str, weight: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """See :class:`engine.Penalty`."""
        return (kept["fisher"] * (weight - kept["start"]).square()).sum() / 2

    def state(self) -> dict[str, Any]:
        """A hash of the sequences that F was measured on."""
        return {"measured_on": self._measured_on}

    def load(self, state: dict[str, Any]) -> None:
        """Raises RunError if F was now measured on other sequences than before."""
        if state["measured_on"] != self._measured_on:
            raise RunError(
                "ewc: the texts of `old` have changed since the stage began, and F with them",
                hint="restore them, or start the stage over with --rerun",
            )

    def _sequences(self, context: int | None) -> list[list[int]]:
        length = min(self._config.length, context or self._config.length)
        pieces = self._pieces(length)
        drawn = heapq.nsmallest(self._config.sequences, pieces)
        if not drawn:
            raise RunError("ewc: `old` has no text to measure F on", hint="name another source")
        return [piece for _, piece in drawn]

    def _pieces(self, length: int) -> Iterator[tuple[bytes, list[int]]]:
        """Sequences of at most ``length`` tokens to predict, each with its place in the draw."""
        tokenizer, seed = self._context.tokenizer(), self._context.seed
        for record in self._context.records(self._config.old):
            if not isinstance(record, Text):
                raise RunError(
                    f"ewc: {record.id}: a {record.schema} record, but F is measured on texts",
                    hint="name a source of texts in `old`",
                )
            if is_held_out(record, self._config.holdout, seed):
                continue
            tokens = document_tokens(tokenizer, record.text)
            for start in range(0, len(tokens) - 1, length):
                yield place(seed, f"{record.id} {start}"), tokens[start : start + length + 1]


def fisher(
    model: nn.Module, sequences: Sequence[Sequence[int]], device: torch.device
) -> dict[str, Tensor]:
    """The diagonal of the empirical Fisher information of a token, by parameter, on the CPU.

    Σ (∇ log P(sequence))² / Σ tokens, each sequence given its first token, without dropout.
    """
    model = copy.deepcopy(model).to(device).eval()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    sums = {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    for sequence in sequences:
        ids_1T = torch.tensor([sequence], device=device)
        places_1T = torch.arange(ids_1T.shape[1] - 1, device=device)[None]
        hidden_1TD = hidden_states(model, input_ids=ids_1T[:, :-1], position_ids=places_1T)
        nats = cross_entropy(hidden_1TD, head(model), ids_1T[:, 1:])
        gradients = torch.autograd.grad(nats, list(named.values()), allow_unused=True)
        for total, gradient in zip(sums.values(), gradients, strict=True):
            if gradient is not None:
                total.addcmul_(gradient, gradient)
    tokens = sum(len(sequence) - 1 for sequence in sequences)
    return {name: (total / tokens).cpu() for name, total in sums.items()}


def build(config: ElasticWeights, context: Context) -> Penalty:
    """Builds the penalty."""
    return ElasticWeightsPenalty(config, context)
