"""Kahneman-Tversky optimization: a policy learned from answers that are good or bad by themselves.

Shapes: N answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine import BaseObjective, Batch, Context, Example, Labelled, Preference, Record
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.offline_config import KTO
from engine_rlhf.other_models import reference_model
from engine_rlhf.pairs import (
    TOO_LONG,
    Inputs,
    answer_logprobs,
    lay_out,
    model_logprobs,
    tokens,
    written,
)

_OTHER = "other/"
"""Begins the names of what belongs to mismatched answers."""


class KTOObjective(DropoutOff, BaseObjective):
    """λ_D·(1 − σ(β·(r − z))) for a good answer and λ_U·(1 − σ(β·(z − r))) for a bad one, where r is its
    log-ratio log π/π_ref, and z the divergence of the policy from the reference (Ethayarajh et al.
    2024, equation 7).

    z is estimated as the paper does, from answers to other prompts: max(0, mean of their log-ratios
    over the global batch), without gradient.
    """

    takes = KTO.takes
    head = KTO.head
    observes = True

    def __init__(self, config: KTO, context: Context) -> None:
        self._config, self._context = config, context
        self._reference: nn.Module | None = None

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """An answer; of a preference, both."""
        if isinstance(record, Preference):
            answers = [(record.chosen, True), (record.rejected, False)]
        else:
            assert isinstance(record, Labelled)
            answers = [(record.completion, record.label)]
        for text, good in answers:
            prompt, answer = tokens(tokenizer, record.prompt, text, record.tools)
            document = written(prompt, answer, length)
            if document is None:
                yield TOO_LONG
            else:
                fields = {"own": document, "good": good, "prompt": prompt, "answer": answer}
                yield Example(len(document), fields, document.cut > 0)

    def arrange(self, examples: list[Example], length: int) -> list[Example]:
        """Each with the answer to the next other prompt, as if it answered its own."""
        arranged = []
        for example, following in zip(examples, _next_other(examples), strict=True):
            prompt, answer = example.fields["prompt"], examples[following].fields["answer"]
            fields = {name: example.fields[name] for name in ("own", "good")}
            # It is only measured: whatever is left of the prompt will do.
            fields["other"] = written(prompt, answer, length, keeps_room=False)
            arranged.append(Example(example.length, fields, example.truncated))
        return arranged

    def collate(self, examples: Sequence[Example]) -> Batch:
        """The answers; mismatched ones go along as targets, since only :meth:`observe` reads them."""
        inputs, targets = lay_out([e.fields["own"] for e in examples])
        for part in lay_out([e.fields["other"] for e in examples]):
            targets |= {f"{_OTHER}{name}": tensor for name, tensor in part.items()}
        targets["good"] = torch.tensor([e.fields["good"] for e in examples])
        counts = dict.fromkeys(("loss", "metric/kl"), len(examples))
        return Batch(inputs, targets, counts, sum(e.length for e in examples))

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The reference, which :meth:`observe` asks as well."""
        self._reference = reference_model(model, self._config.reference, self._context)
        return {"reference": self._reference}

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """The reference's log P ``_N`` of every answer."""
        inputs, targets = dict(batch.inputs), dict(batch.targets)
        count = batch.counts["loss"]
        targets["reference"] = model_logprobs(frozen["reference"], inputs, targets, count)
        return replace(batch, targets=targets)

    def observe(self, batch: Batch, model: nn.Module) -> dict[str, tuple[float, float]]:
        """Log-ratios of the mismatched answers."""
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
        """The divergence; what it was estimated from is done with."""
        targets = {n: t for n, t in batch.targets.items() if not n.startswith(_OTHER)}
        targets["kl"] = torch.tensor(max(observed["kl"], 0.0))
        return replace(batch, targets=targets)

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum over answers; ``metric/kl`` is z."""
        config, targets, count = self._config, dict(batch.targets), batch.counts["loss"]
        ratio_N = answer_logprobs(hidden_BTD, head, targets, count) - targets["reference"]
        good_N, kl = targets["good"], targets["kl"]
        gain_N = torch.where(good_N, ratio_N - kl, kl - ratio_N)
        weight_N = torch.where(good_N, config.desirable_weight, config.undesirable_weight)
        loss_N = weight_N * (1 - torch.sigmoid(config.beta * gain_N))
        return {"loss": loss_N.sum(), "metric/kl": kl * count}


def _next_other(examples: Sequence[Example]) -> list[int]:
    """For each the next one with another prompt, in a circle; just the next where all are the same."""
    count = len(examples)
    prompts = [example.fields["prompt"] for example in examples]
    alike = [np.array_equal(prompts[i], prompts[(i + 1) % count]) for i in range(count)]
    found = [(i + 1) % count for i in range(count)]
    for i in (*reversed(range(count)), *reversed(range(count))) if not all(alike) else ():
        following = (i + 1) % count
        found[i] = found[following] if alike[i] else following
    return found


def build(config: KTO, context: Context) -> KTOObjective:
    """The objective."""
    return KTOObjective(config, context)
