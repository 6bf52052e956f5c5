"""RLOO and GRPO: the baseline of an answer comes from the other answers to its prompt.

Shapes: B rows, T positions, N tokens of an answer, G answers to a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from engine import Batch, Context, Example
from engine.modeling import IGNORE
from engine_rlhf.config.online import GRPO, RLOO, Group
from engine_rlhf.online.episode import Episode, Floats
from engine_rlhf.online.objective import OnlineObjective
from engine_rlhf.online.policy_loss import clipped_loss, logprobs, ratio_metrics

_TINY = 1e-4
"""Added to a standard deviation, which is 0 where all answers have the same reward."""


class _Grouped(OnlineObjective):
    """Base class of both: all tokens of an answer share one advantage, from its reward and costs."""

    _config: Group

    def estimates(self, episodes: Sequence[Episode]) -> list[list[Floats]]:
        """See :class:`OnlineObjective`; one number for each answer."""
        totals = [[self.scored(e) for e in episodes]]
        totals += [[e.costs[i] for e in episodes] for i in range(len(self._config.constraints))]
        return [[np.array([value]) for value in values] for values in totals]

    def scored(self, episode: Episode) -> float:
        """The number by which the answers to a prompt are compared."""
        return self.total(episode)

    def compared(self, values_PG: Floats) -> Floats:
        """Advantages of all answers, flattened prompt by prompt."""
        raise NotImplementedError

    def examples(
        self, episodes: Sequence[Episode], estimates: Sequence[Sequence[Floats]]
    ) -> list[Example]:
        """See :class:`OnlineObjective`."""
        values_PG = np.concatenate(self.combined(estimates)).reshape(-1, self._config.answers)
        return [
            e.example(
                advantages=np.full(len(e.answer), advantage, np.float32), reference=e.reference
            )
            for e, advantage in zip(episodes, self.compared(values_PG), strict=True)
        ]


class RLOOObjective(_Grouped):
    """REINFORCE leave-one-out: the KL penalty is part of the reward; ratios are of whole answers."""

    _config: RLOO

    def scored(self, episode: Episode) -> float:
        """The reward less the penalty for the divergence (k1)."""
        return self.total(episode) - self._penalty.value * episode.kl

    def compared(self, values_PG: Floats) -> Floats:
        """A_i = R_i − mean of the others' (Ahmadian et al. 2024, equation 8)."""
        others = (values_PG.sum(1, keepdims=True) - values_PG) / (self._config.answers - 1)
        advantages: Floats = (values_PG - others).ravel()
        if self._config.normalize:
            advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + _TINY)
        return advantages

    def counts(self, examples: Sequence[Example], tokens: int) -> dict[str, int]:
        """See :class:`OnlineObjective`; ``policy`` has a term for each answer."""
        return {**super().counts(examples, tokens), "policy": len(examples)}

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The clipped policy loss, summed over answers."""
        own_BT = logprobs(hidden_BTD, head, batch, self._config.temperature)
        log_ratio_BT = own_BT - batch.targets["logprobs"]
        advantage_B = _of_answer(batch.targets["advantages"], batch)
        loss_B = clipped_loss(log_ratio_BT.sum(1), advantage_B, self._config.clip)
        return {"policy": loss_B.sum(), **ratio_metrics(log_ratio_BT, batch, self._config.clip)}


class GRPOObjective(_Grouped):
    """Group-relative policy optimization: the KL penalty is part of the loss."""

    _config: GRPO

    def compared(self, values_PG: Floats) -> Floats:
        """A_i = R_i − mean of the group, divided by the std of the group (Shao et al. 2024), by that of
        the round, or by nothing."""
        centred: Floats = values_PG - values_PG.mean(1, keepdims=True)
        if self._config.scale == "group":
            centred = centred / (values_PG.std(1, ddof=1, keepdims=True) + _TINY)
        elif self._config.scale == "round":
            centred = centred / (values_PG.std(ddof=1) + _TINY)
        return centred.ravel()

    def counts(self, examples: Sequence[Example], tokens: int) -> dict[str, int]:
        """See :class:`OnlineObjective`; ``policy`` counts what `average` takes the mean over."""
        terms = {
            "token": tokens,
            "answer": len(examples),
            "longest": len(examples) * self._config.answer_tokens,
        }
        return {**super().counts(examples, tokens), "policy": terms[self._config.average]}

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The clipped policy loss and β·k3, summed over tokens (or over answers' means)."""
        own_BT = logprobs(hidden_BTD, head, batch, self._config.temperature)
        counted_BT = batch.targets["labels"] != IGNORE
        log_ratio_BT = own_BT - batch.targets["logprobs"]
        loss_BT = clipped_loss(log_ratio_BT, batch.targets["advantages"], self._config.clip)
        if self._config.kl:
            apart_BT = (batch.targets["reference"] - own_BT) * counted_BT
            loss_BT = loss_BT + self._config.kl * (apart_BT.exp() - 1 - apart_BT)
        loss_B = (loss_BT * counted_BT).sum(1)
        if self._config.average == "answer":
            loss_B = loss_B / counted_BT.sum(1).clamp(min=1)
        return {"policy": loss_B.sum(), **ratio_metrics(log_ratio_BT, batch, self._config.clip)}


def build_rloo(config: RLOO, context: Context) -> RLOOObjective:
    """Builds the objective."""
    return RLOOObjective(config, context)


def build_grpo(config: GRPO, context: Context) -> GRPOObjective:
    """Builds the objective."""
    return GRPOObjective(config, context)


def _of_answer(advantages_BT: Tensor, batch: Batch) -> Tensor:
    """The advantage that all tokens of a row's answer have, ``_B``."""
    counted_BT = batch.targets["labels"] != IGNORE
    return (advantages_BT * counted_BT).sum(1) / counted_BT.sum(1).clamp(min=1)
