"""Direct preference optimization: learns from pairs of answers, without a reward model.

Shapes: P pairs, N = 2P answers, the chosen ones first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from engine import (
    Batch,
    Context,
    Example,
    Objective,
    Preference,
    Record,
)
from engine_rlhf.config.offline import DPO
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline.documents import (
    TOO_LONG,
    answer_lengths,
    answer_logprobs,
    both_sides,
    lay_out,
    lm_document,
    model_logprobs,
    pair,
    prompt_and_answer,
)
from engine_rlhf.stage_models import reference_model


class DPOObjective(DropoutOff, Objective):
    """−log σ(β·Δ), where Δ is the chosen answer's log-ratio log π/π_ref minus the rejected one's
    (Rafailov et al. 2023, equation 7). With label smoothing ε, the loss is (1 − ε) times this plus
    ε times the loss of the pair with its answers swapped (Mitchell 2023).

    ``ipo`` is (Δ − 1/2β)² (Azar et al. 2023, equation 17). In ``ipo`` and ``sigmoid-norm`` the
    log-ratios are divided by the answer's number of tokens, as in TRL.
    """

    takes = DPO.takes
    head = DPO.head

    def __init__(self, config: DPO, context: Context) -> None:
        self._config: DPO = config
        self._context = context

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """One pair; both answers follow the same prompt, truncated to fit before the longer answer."""
        assert isinstance(record, Preference)
        prompt, chosen = prompt_and_answer(tokenizer, record.prompt, record.chosen, record.tools)
        _, rejected = prompt_and_answer(tokenizer, record.prompt, record.rejected, record.tools)
        longer = lm_document(prompt, max(chosen, rejected, key=len), length)
        if longer is None:
            yield TOO_LONG
            return
        first, second = (lm_document(prompt[longer.cut :], a, length) for a in (chosen, rejected))
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
        """Adds the reference's log P ``_N`` of every answer."""
        count = 2 * batch.counts["loss"]
        inputs, targets = dict(batch.inputs), dict(batch.targets)
        targets["reference"] = model_logprobs(frozen["reference"], inputs, targets, count)
        return Batch(inputs, targets, batch.counts, batch.tokens)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss summed over pairs; ``metric/margin`` is β·Δ, the difference of implicit rewards."""
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
    """Builds the objective."""
    return DPOObjective(config, context)
