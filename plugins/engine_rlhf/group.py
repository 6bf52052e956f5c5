"""RLOO and GRPO: several answers to a prompt are each other's baseline.

Shapes: B rows, T positions, N tokens of an answer, G answers to a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from engine import IGNORE, Batch, Context, Example
from engine_rlhf.config import GRPO, RLOO, Group
from engine_rlhf.episodes import Episode, Floats, OnlineObjective
from engine_rlhf.policy import clipped, logprobs, measured

_TINY = 1e-4
"""Added to a standard deviation: of answers that are all alike, it is 0."""


class _Grouped(OnlineObjective):
    """One advantage for all tokens of an answer, by its reward less its costs."""

    def __init__(self, config: Group, context: Context) -> None:
        super().__init__(config, context)
        self._answers = config.answers

    def estimates(self, episodes: Sequence[Episode]) -> list[list[Floats]]:
        """See :class:`OnlineObjective`; one number of each answer."""
        totals = [[self.scored(e) for e in episodes]]
        totals += [[e.costs[i] for e in episodes] for i in range(len(self._costs))]
        return [[np.array([value]) for value in values] for values in totals]

    def scored(self, episode: Episode) -> float:
        """What the answers are compared by."""
        return self.total(episode)

    def compared(self, values_PG: NDArray[np.float64]) -> NDArray[np.float64]:
        """Advantages of all answers, prompt by prompt."""
        raise NotImplementedError

    def examples(
        self, episodes: Sequence[Episode], estimates: Sequence[Sequence[Floats]]
    ) -> list[Example]:
        """See :class:`OnlineObjective`."""
        values_PG = np.concatenate(self.combined(estimates)).reshape(-1, self._answers)
        return [
            e.example(
                advantages=e.placed(np.full(len(e.answer), advantage, np.float32)),
                reference=e.placed(e.reference),
            )
            for e, advantage in zip(episodes, self.compared(values_PG), strict=True)
        ]


class RLOOObjective(_Grouped):
    """The divergence is in the reward; the ratio is of whole answers."""

    def __init__(self, config: RLOO, context: Context) -> None:
        super().__init__(config, context)
        self._normalize = config.normalize

    def scored(self, episode: Episode) -> float:
        """The reward less the penalty for the divergence (k1)."""
        return self.total(episode) - self._penalty.value * episode.kl

    def compared(self, values_PG: NDArray[np.float64]) -> NDArray[np.float64]:
        """A_i = R_i − mean of the others' (Ahmadian et al. 2024, equation 8)."""
        others = (values_PG.sum(1, keepdims=True) - values_PG) / (self._answers - 1)
        advantages = (values_PG - others).ravel()
        if self._normalize:
            advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + _TINY)
        return advantages

    def counts(self, examples: Sequence[Example], tokens: int) -> dict[str, int]:
        """As many terms as answers."""
        return {**super().counts(examples, tokens), "policy": len(examples)}

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The clipped policy loss, summed over answers."""
        own_BT = logprobs(hidden_BTD, head, batch, self._config.temperature)
        log_ratio_BT = own_BT - batch.targets["logprobs"]
        advantage_B = _of_answer(batch.targets["advantages"], batch)
        loss_B = clipped(log_ratio_BT.sum(1), advantage_B, self._config.clip)
        return {"policy": loss_B.sum(), **measured(log_ratio_BT, batch, self._config.clip)}


class GRPOObjective(_Grouped):
    """The divergence is in the loss."""

    def __init__(self, config: GRPO, context: Context) -> None:
        super().__init__(config, context)
        self._grpo = config

    def compared(self, values_PG: NDArray[np.float64]) -> NDArray[np.float64]:
        """A_i = (R_i − mean) / std of the group (Shao et al. 2024), of the round, or undivided."""
        centred = values_PG - values_PG.mean(1, keepdims=True)
        if self._grpo.scale == "group":
            centred = centred / (values_PG.std(1, ddof=1, keepdims=True) + _TINY)
        elif self._grpo.scale == "round":
            centred = centred / (values_PG.std(ddof=1) + _TINY)
        return centred.ravel()

    def counts(self, examples: Sequence[Example], tokens: int) -> dict[str, int]:
        """As many terms as the loss is a mean over."""
        terms = {
            "token": tokens,
            "answer": len(examples),
            "longest": len(examples) * self._config.answer_tokens,
        }
        return {**super().counts(examples, tokens), "policy": terms[self._grpo.average]}

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The clipped policy loss and β·k3, summed over tokens (or over answers' means)."""
        own_BT = logprobs(hidden_BTD, head, batch, self._config.temperature)
        counted_BT = batch.targets["labels"] != IGNORE
        log_ratio_BT = own_BT - batch.targets["logprobs"]
        loss_BT = clipped(log_ratio_BT, batch.targets["advantages"], self._config.clip)
        if self._config.kl:
            apart_BT = (batch.targets["reference"] - own_BT) * counted_BT
            loss_BT = loss_BT + self._config.kl * (apart_BT.exp() - 1 - apart_BT)
        loss_B = (loss_BT * counted_BT).sum(1)
        if self._grpo.average == "answer":
            loss_B = loss_B / counted_BT.sum(1).clamp(min=1)
        return {"policy": loss_B.sum(), **measured(log_ratio_BT, batch, self._config.clip)}


def build_rloo(config: RLOO, context: Context) -> RLOOObjective:
    """The objective."""
    return RLOOObjective(config, context)


def build_grpo(config: GRPO, context: Context) -> GRPOObjective:
    """The objective."""
    return GRPOObjective(config, context)


def _of_answer(advantages_BT: Tensor, batch: Batch) -> Tensor:
    """The advantage that all tokens of a row's answer have, ``_B``."""
    counted_BT = batch.targets["labels"] != IGNORE
    return (advantages_BT * counted_BT).sum(1) / counted_BT.sum(1).clamp(min=1)
