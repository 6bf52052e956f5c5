"""Reward and cost models: one number for an answer, learned from preferences.

Shapes: P pairs, N = 2P answers, those that were chosen first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from engine import BaseObjective, Batch, Context, Example, LanguageModel, Preference, Record
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline_config import Cost, Reward
from engine_rlhf.pairs import (
    TOO_LONG,
    Document,
    both_sides,
    by_document,
    judged,
    lay_out,
    pair,
    tokens,
)


class _ScalarObjective(DropoutOff, BaseObjective):
    """What both share: a pair is an example, and the values at the ends of its answers count."""

    takes = Reward.takes
    head = Reward.head

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """One pair; each answer has as much of the prompt's end as fits, as where it is scored."""
        assert isinstance(record, Preference)
        chosen, rejected = (
            judged(*tokens(tokenizer, record.prompt, answer, record.tools), length)
            for answer in (record.chosen, record.rejected)
        )
        more = self._more(record)
        if chosen is None or rejected is None:
            yield TOO_LONG
        elif isinstance(more, str):
            yield more
        else:
            yield pair(chosen, rejected, cut=max(chosen.cut, rejected.cut), **more)

    def _more(self, record: Preference) -> dict[str, Any] | str:
        """Further fields of an example, or why there is none."""
        return {}

    def _values(self, hidden_BTD: Tensor, output: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the chosen and of the rejected answers, ``_P`` each."""
        weight_1D: Any = output.weight
        value_BT = linear(hidden_BTD, weight_1D.to(hidden_BTD.dtype))[..., 0]
        pairs = batch.counts["metric/accuracy"]
        value_N = by_document(value_BT, dict(batch.targets), 2 * pairs)
        return value_N[:pairs], value_N[pairs:]


class RewardObjective(_ScalarObjective):
    """−log σ(r(chosen) − r(rejected) − margin), the likelihood of Bradley and Terry's model (Ouyang et
    al. 2022, equation 1), and perhaps c·(r(chosen) + r(rejected))² (Eisenstein et al. 2023)."""

    def __init__(self, config: Reward) -> None:
        self._config = config

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Both answers of every pair."""
        batch = _collate(examples, {"loss": len(examples)})
        if self._config.margin is None:
            return batch
        margins = torch.tensor([e.fields["margin"] for e in examples], dtype=torch.float32)
        targets = {**batch.targets, "margin": margins}
        return Batch(batch.inputs, targets, batch.counts, batch.tokens)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Sums over pairs; ``metric/accuracy`` is the share whose chosen answer has more."""
        chosen_P, rejected_P = self._values(hidden_BTD, head, batch)
        difference_P = chosen_P - rejected_P
        loss_P = -logsigmoid(difference_P - batch.targets.get("margin", 0))
        if self._config.center:
            loss_P = loss_P + self._config.center * (chosen_P + rejected_P).square()
        return {"loss": loss_P.sum(), **_metrics(difference_P)}

    def keep(self, lm: LanguageModel, examples: Sequence[Example]) -> dict[str, Any]:
        """Mean and standard deviation of the values of chosen answers, which are the reference."""
        values = _final_values(lm, [example.fields["chosen"] for example in examples])
        return {"value_mean": float(values.mean()), "value_std": _spread(values)}

    def _more(self, record: Preference) -> dict[str, Any] | str:
        name = self._config.margin
        if name is None:
            return {}
        margin = record.meta.get(name)
        if isinstance(margin, bool) or not isinstance(margin, int | float):
            return f"without a number as '{name}'"
        return {"margin": float(margin)}


class CostObjective(_ScalarObjective):
    """−log σ(C(rejected) − C(chosen)) − log σ(s·C(chosen)) − log σ(s·C(rejected)), with s = 1 for a
    harmful answer and −1 for a safe one (Dai et al. 2023, Safe RLHF, section 3.2).

    Where there is no label, its term is left out; the mean is over those that there are.
    """

    def __init__(self, config: Cost) -> None:
        self._config = config

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Both answers of every pair, and their labels: 1 harmful, −1 safe, 0 unknown."""
        harmful_N = [e.fields["harmful"][side] for side in (0, 1) for e in examples]
        labelled = sum(harm != 0 for harm in harmful_N)
        counts = {"preference": len(examples), "safety": labelled}
        counts |= {"metric/safety_accuracy": labelled}
        batch = _collate(examples, counts)
        targets = {**batch.targets, "harmful": torch.tensor(harmful_N, dtype=torch.float32)}
        return Batch(batch.inputs, targets, batch.counts, batch.tokens)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """``preference`` summed over pairs, ``safety`` over labelled answers.

        The paper adds up both answers of a pair: twice the mean over answers.
        """
        chosen_P, rejected_P = self._values(hidden_BTD, head, batch)
        difference_P = rejected_P - chosen_P
        harmful_N = batch.targets["harmful"]
        signed_N = harmful_N * torch.cat([chosen_P, rejected_P])
        safety_N = -logsigmoid(signed_N) * harmful_N.abs()
        return {
            "preference": -logsigmoid(difference_P).sum(),
            "safety": 2 * self._config.safety * safety_N.sum(),
            "metric/safety_accuracy": (signed_N.detach() > 0).float().sum(),
            **_metrics(difference_P),
        }

    def keep(self, lm: LanguageModel, examples: Sequence[Example]) -> dict[str, Any]:
        """Only a scale, the standard deviation over all answers: 0 still parts harmful from safe, which
        a constraint on the mean cost relies on."""
        return {"value_mean": 0.0, "value_std": _spread(_final_values(lm, both_sides(examples)))}

    def _more(self, record: Preference) -> dict[str, Any]:
        sign = {None: 0, True: -1, False: 1}
        return {"harmful": (sign[record.chosen_safe], sign[record.rejected_safe])}


def _collate(examples: Sequence[Example], counts: dict[str, int]) -> Batch:
    pairs = len(examples)
    inputs, targets = lay_out(both_sides(examples))
    counts = {**counts, "metric/accuracy": pairs, "metric/margin": pairs}
    return Batch(inputs, targets, counts, sum(e.length for e in examples))


def _metrics(difference_P: Tensor) -> dict[str, Tensor]:
    difference_P = difference_P.detach()
    return {
        "metric/accuracy": (difference_P > 0).float().sum(),
        "metric/margin": difference_P.sum(),
    }


def _final_values(lm: LanguageModel, documents: Sequence[Document]) -> np.ndarray[Any, Any]:
    """What the model gives at the end of each answer, unscaled."""
    found = lm.values([document.input_ids.tolist() for document in documents])
    return np.array([float(value_T[-1]) for value_T in found])


def _spread(values: np.ndarray[Any, Any]) -> float:
    """Standard deviation, or 1 where all are the same."""
    return float(values.std()) or 1.0


def build_reward(config: Reward, context: Context) -> RewardObjective:
    """The objective."""
    return RewardObjective(config)


def build_cost(config: Cost, context: Context) -> CostObjective:
    """The objective."""
    return CostObjective(config)
