"""Kahneman-Tversky optimization: learns from single answers that are labelled good or bad.

Shapes: N answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine import (
    Batch,
    Context,
    Example,
    Labelled,
    Objective,
    Preference,
    Record,
)
from engine_rlhf.config.offline import KTO
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline.documents import (
    TOO_LONG,
    Inputs,
    answer_logprobs,
    lay_out,
    lm_document,
    model_logprobs,
    prompt_and_answer,
)
from engine_rlhf.stage_models import reference_model

_OTHER = "other/"
"""Prefix of the names of targets that belong to mismatched answers."""


class KTOObjective(DropoutOff, Objective):
    """λ_D·(1 − σ(β·(r − z))) for a good answer and λ_U·(1 − σ(β·(z − r))) for a bad one, where r is its
    log-ratio log π/π_ref, and z the divergence of the policy from the reference (Ethayarajh et al.
    2024, equation 7).

    As in the paper, z is estimated from mismatched answers (each to another prompt): max(0, mean of
    their log-ratios over the global batch), without gradient.
    """

    takes = KTO.takes
    head = KTO.head
    observes = True

    def __init__(self, config: KTO, context: Context) -> None:
        self._config: KTO = config
        self._context = context
        self._reference: nn.Module | None = None

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """One example for each answer; a preference has two, `chosen` good and `rejected` bad."""
        if isinstance(record, Preference):
            answers = [(record.chosen, True), (record.rejected, False)]
        else:
            assert isinstance(record, Labelled)
            answers = [(record.completion, record.label)]
        for text, good in answers:
            prompt, answer = prompt_and_answer(tokenizer, record.prompt, text, record.tools)
            document = lm_document(prompt, answer, length)
            if document is None:
                yield TOO_LONG
            else:
                fields = {"own": document, "good": good, "prompt": prompt, "answer": answer}
                yield Example(len(document), fields, document.cut > 0)

    def arrange(self, examples: list[Example], length: int) -> list[Example]:
        """Adds to each example a mismatched answer: that of the next example with another prompt."""
        arranged = []
        for example, following in zip(examples, _next_other(examples), strict=True):
            prompt, answer = example.fields["prompt"], examples[following].fields["answer"]
            fields = {name: example.fields[name] for name in ("own", "good")}
            # A mismatched answer only estimates the divergence, so a short rest of the prompt will do.
            fields["other"] = lm_document(prompt, answer, length, keeps_room=False)
            arranged.append(Example(example.length, fields, example.truncated))
        return arranged

    def collate(self, examples: Sequence[Example]) -> Batch:
        """The answers; mismatched ones go to the targets, as only :meth:`observe` reads them."""
        inputs, targets = lay_out([e.fields["own"] for e in examples])
        for part in lay_out([e.fields["other"] for e in examples]):
            targets |= {f"{_OTHER}{name}": tensor for name, tensor in part.items()}
        targets["good"] = torch.tensor([e.fields["good"] for e in examples])
        counts = dict.fromkeys(("loss", "metric/kl"), len(examples))
        return Batch(inputs, targets, counts, sum(e.length for e in examples))

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The reference model, which :meth:`observe` uses as well."""
        self._reference = reference_model(model, self._config.reference, self._context)
        return {"reference": self._reference}

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """Adds the reference's log P ``_N`` of every answer."""
        inputs, targets = dict(batch.inputs), dict(batch.targets)
        count = batch.counts["loss"]
        targets["reference"] = model_logprobs(frozen["reference"], inputs, targets, count)
        return replace(batch, targets=targets)

    def observe(self, batch: Batch, model: nn.Module) -> dict[str, tuple[float, float]]:
        """The sum of the log-ratios of mismatched answers, and their number."""
        assert self._reference is not None
        device = next(model.parameters()).device
        other: Inputs = {
            name.removeprefix(_OTHER): tensor.to(device)
            for name, tensor in batch.targets.items()
            if name.startswith(_OTHER)
        }
        inputs = {name: other.pop(name) for name in ("input_ids", "position_ids")}
        count = batch.counts["loss"]
        policy_N, reference_N = (
            model_logprobs(asked, inputs, other, count) for asked in (model, self._reference)
        )
        return {"kl": (float((policy_N - reference_N).sum()), count)}

    def settle(self, batch: Batch, observed: Mapping[str, float]) -> Batch:
        """Adds the divergence z, and drops the mismatched answers that it was estimated from."""
        targets = {n: t for n, t in batch.targets.items() if not n.startswith(_OTHER)}
        targets["kl"] = torch.tensor(max(observed["kl"], 0.0))
        return replace(batch, targets=targets)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The loss summed over answers; ``metric/kl`` is z."""
        config, targets, count = self._config, dict(batch.targets), batch.counts["loss"]
        ratio_N = answer_logprobs(hidden_BTD, head, targets, count) - targets["reference"]
        good_N, kl = targets["good"], targets["kl"]
        gain_N = torch.where(good_N, ratio_N - kl, kl - ratio_N)
        weight_N = torch.where(good_N, config.desirable_weight, config.undesirable_weight)
        loss_N = weight_N * (1 - torch.sigmoid(config.beta * gain_N))
        return {"loss": loss_N.sum(), "metric/kl": kl * count}


def _next_other(examples: Sequence[Example]) -> list[int]:
    """The index, for each example, of the next one with another prompt, cyclically; of the next example
    if all prompts are equal."""
    count = len(examples)
    prompts = [example.fields["prompt"] for example in examples]
    alike = [np.array_equal(prompts[i], prompts[(i + 1) % count]) for i in range(count)]
    found = [(i + 1) % count for i in range(count)]
    for number in (*reversed(range(count)), *reversed(range(count))) if not all(alike) else ():
        following = (number + 1) % count
        found[number] = found[following] if alike[number] else following
    return found


def build(config: KTO, context: Context) -> KTOObjective:
    """Builds the objective."""
    return KTOObjective(config, context)
