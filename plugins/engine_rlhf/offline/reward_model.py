"""Reward and cost models, which give an answer one number, trained on preferences.

Shapes: P pairs, N = 2P answers, the chosen ones first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid

from engine import (
    Batch,
    Context,
    Example,
    LanguageModel,
    Objective,
    Preference,
    Record,
)
from engine_rlhf.config.offline import Cost, Reward
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline.documents import (
    TOO_LONG,
    Document,
    both_sides,
    by_document,
    lay_out,
    pair,
    prompt_and_answer,
    scalar_document,
)


class _ScalarObjective(DropoutOff, Objective):
    """Base class of both: an example is a pair, and the loss uses the values at the answers' ends."""

    takes = Reward.takes
    head = Reward.head

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """One pair; the prompt is truncated for each answer separately, as in scoring."""
        assert isinstance(record, Preference)
        chosen, rejected = (
            scalar_document(
                *prompt_and_answer(tokenizer, record.prompt, answer, record.tools), length
            )
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
        """Further fields of an example, or the reason why the record is dropped."""
        return {}

    def _values(self, hidden_BTD: Tensor, output: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values of the chosen and of the rejected answers, ``_P`` each."""
        weight_1D: Any = output.weight
        value_BT = linear(hidden_BTD, weight_1D.to(hidden_BTD.dtype))[..., 0]
        pairs = batch.counts["metric/accuracy"]
        value_N = by_document(value_BT, dict(batch.targets), 2 * pairs)
        return value_N[:pairs], value_N[pairs:]


class RewardObjective(_ScalarObjective):
    """−log σ(r(chosen) − r(rejected) − margin), the likelihood of Bradley and Terry's model (Ouyang et
    al. 2022, equation 1), plus c·(r(chosen) + r(rejected))² for a center c (Eisenstein et al. 2023)."""

    def __init__(self, config: Reward) -> None:
        self._config: Reward = config

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Both answers of every pair."""
        batch = _collate(examples, {"loss": len(examples)})
        if self._config.margin is None:
            return batch
        margins = torch.tensor([e.fields["margin"] for e in examples], dtype=torch.float32)
        targets = {**batch.targets, "margin": margins}
        return Batch(batch.inputs, targets, batch.counts, batch.tokens)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss summed over pairs; ``metric/accuracy`` counts pairs whose chosen value is higher."""
        chosen_P, rejected_P = self._values(hidden_BTD, head, batch)
        difference_P = chosen_P - rejected_P
        loss_P = -logsigmoid(difference_P - batch.targets.get("margin", 0))
        if self._config.center:
            loss_P = loss_P + self._config.center * (chosen_P + rejected_P).square()
        return {"loss": loss_P.sum(), **_metrics(difference_P)}

    def keep(self, lm: LanguageModel, examples: Sequence[Example]) -> dict[str, Any]:
        """Mean and standard deviation of the chosen answers' values, which normalise later values."""
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

    Answers without a safety label have no safety term; its mean is over labelled answers.
    """

    def __init__(self, config: Cost) -> None:
        self._config: Cost = config

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
        """Sums of ``preference`` over pairs, and of ``safety`` over labelled answers.

        ``safety`` is doubled, as the paper adds the terms of both answers of a pair.
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
        """The standard deviation over all answers, and a mean of 0, so that 0 still separates harmful
        from safe answers, as a constraint on the mean cost needs."""
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
    """The model's values at the ends of the answers, not normalised."""
    found = lm.values([document.input_ids.tolist() for document in documents])
    return np.array([float(value_T[-1]) for value_T in found])


def _spread(values: np.ndarray[Any, Any]) -> float:
    """The standard deviation, or 1 where all values are equal."""
    return float(values.std()) or 1.0


def build_reward(config: Reward, context: Context) -> RewardObjective:
    """Builds the objective."""
    return RewardObjective(config)


def build_cost(config: Cost, context: Context) -> CostObjective:
    """Builds the objective."""
    return CostObjective(config)
