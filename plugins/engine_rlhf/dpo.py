"""Direct preference optimization: a policy learned from pairs of answers, without a reward model.

Shapes: P pairs, N = 2P answers, those that were chosen first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from engine import BaseObjective, Batch, Context, Example, Preference, Record
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline_config import DPO
from engine_rlhf.other_models import reference_model
from engine_rlhf.pairs import (
    TOO_LONG,
    answer_lengths,
    answer_logprobs,
    both_sides,
    lay_out,
    model_logprobs,
    pair,
    tokens,
    written,
)


class DPOObjective(DropoutOff, BaseObjective):
    """−log σ(β·Δ), where Δ is by how much the chosen answer's log-ratio log π/π_ref exceeds the
    rejected one's (Rafailov et al. 2023, equation 7); with label smoothing ε, (1 − ε) of it and ε of
    that of the pair turned round (Mitchell 2023).

    ``ipo`` is (Δ − 1/2β)² (Azar et al. 2023, equation 17). Of ``ipo`` and ``sigmoid-norm`` the
    log-ratios are per token of the answer, as in TRL.
    """

    takes = DPO.takes
    head = DPO.head

    def __init__(self, config: DPO, context: Context) -> None:
        self._config, self._context = config, context

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """One pair: what of the prompt does not fit before the longer answer neither has."""
        assert isinstance(record, Preference)
        prompt, chosen = tokens(tokenizer, record.prompt, record.chosen, record.tools)
        _, rejected = tokens(tokenizer, record.prompt, record.rejected, record.tools)
        longer = written(prompt, max(chosen, rejected, key=len), length)
        if longer is None:
            yield TOO_LONG
            return
        first, second = (written(prompt[longer.cut :], a, length) for a in (chosen, rejected))
        assert first is not None
        assert second is not None
        yield pair(first, second, cut=longer.cut)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Both answers of every pair."""
        inputs, targets = lay_out(both_sides(examples))
        counts = dict.fromkeys(("loss", "metric/accuracy", "metric/margin"), len(examples))
        return Batch(inputs, targets, counts, sum(e.length for e in examples))

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The reference."""
        return {"reference": reference_model(model, self._config.reference, self._context)}

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """The reference's log P ``_N`` of every answer."""
        count = 2 * batch.counts["loss"]
        inputs, targets = dict(batch.inputs), dict(batch.targets)
        targets["reference"] = model_logprobs(frozen["reference"], inputs, targets, count)
        return Batch(inputs, targets, batch.counts, batch.tokens)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum over pairs; ``metric/margin`` is β·Δ, the difference of implicit rewards."""
        config, pairs, targets = self._config, batch.counts["loss"], dict(batch.targets)
        ratio_N = answer_logprobs(hidden_BTD, head, targets, 2 * pairs) - targets["reference"]
        if config.loss != "sigmoid":
            ratio_N = ratio_N / answer_lengths(targets, 2 * pairs)
        chosen_P, rejected_P = ratio_N.split(pairs)
        margin_P = config.beta * (chosen_P - rejected_P)
        if config.loss == "ipo":
            loss_P = (chosen_P - rejected_P - 1 / (2 * config.beta)).square()
        else:
            wrong = config.label_smoothing
            loss_P = -(1 - wrong) * logsigmoid(margin_P) - wrong * logsigmoid(-margin_P)
        margin_P = margin_P.detach()
        return {
            "loss": loss_P.sum(),
            "metric/accuracy": (margin_P > 0).float().sum(),
            "metric/margin": margin_P.sum(),
        }


def build(config: DPO, context: Context) -> DPOObjective:
    """The objective."""
    return DPOObjective(config, context)
