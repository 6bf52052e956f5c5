"""Faulty objectives."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
from support.faults.answers import (
    LearnsAnswers,
    LearnsTexts,
    Scaled,
    StaysNear,
    accumulated,
    batch,
    checked_again,
    planted,
    rows,
    trained,
    with_a_biased_head,
)

from engine.modeling import IGNORE, cross_entropy, padded


@planted.fault(trained, "is about the next token of a row")
class LabelsTwiceShifted(LearnsAnswers):
    """It learns the token after the next."""

    def example(self, tokens, prompt=0):
        made = super().example(tokens, prompt)
        later = np.append(made.fields["labels"][1:], IGNORE)
        return replace(made, fields={**made.fields, "labels": later})


@planted.fault(trained, "is about the next token of a row")
class LabelsNotShifted(LearnsAnswers):
    """It learns the token that it reads."""

    def example(self, tokens, prompt=0):
        made = super().example(tokens, prompt)
        learnt = made.fields["labels"] != IGNORE
        own = np.where(learnt, made.fields["input_ids"], IGNORE)
        return replace(made, fields={**made.fields, "labels": own})


@planted.fault(trained, "is about the next token of a row")
class ShiftsInTheLoss(LearnsAnswers):
    """Its loss shifts labels that were shifted before."""

    def loss(self, hidden_BTD, head, batch):
        labels = batch.targets["labels"][:, 1:]
        return {"loss": cross_entropy(hidden_BTD[:, :-1], head, labels.contiguous())}


@planted.fault(trained, "position_ids begin at 0")
class PositionsFromFive(LearnsAnswers):
    """Positions begin at 5."""

    def example(self, tokens, prompt=0):
        made = super().example(tokens, prompt)
        return replace(
            made, fields={**made.fields, "position_ids": made.fields["position_ids"] + 5}
        )


@planted.fault(trained, "packed into rows", of=LearnsTexts)
class PositionsGoOn(LearnsTexts):
    """Positions of packed documents go on, so each sees those before it."""

    def joined(self, some):
        made = super().joined(some)
        return replace(made, fields={**made.fields, "position_ids": np.arange(made.length)})


@planted.fault(rows, "arrange keeps all", of=LearnsTexts)
class LosesTheLastRow(LearnsTexts):
    """It drops the last row, which is seldom full."""

    def arrange(self, examples, length):
        return super().arrange(examples, length)[:-1]


@planted.fault(trained, "over micro-batches adds up to")
class MeanForSum(LearnsAnswers):
    """Its loss is a mean."""

    def loss(self, hidden_BTD, head, batch):
        return {"loss": super().loss(hidden_BTD, head, batch)["loss"] / batch.counts["loss"]}


@planted.fault(accumulated, "accumulated over micro-batches")
class CountsPadding(LearnsAnswers):
    """It counts padding, which is longer in a larger batch."""

    def collate(self, examples):
        made = super().collate(examples)
        return replace(made, counts={"loss": made.targets["labels"].numel()})


@planted.fault(trained, "counts['loss'] is")
class CountsPrompts(LearnsAnswers):
    """It counts the tokens of prompts, of which it learns nothing."""

    def collate(self, examples):
        made = super().collate(examples)
        return replace(made, counts={"loss": made.tokens})


@planted.fault(trained, "over micro-batches adds up to")
class LearnsPadding(LearnsAnswers):
    """Padding is labelled with token 0."""

    def collate(self, examples):
        made = super().collate(examples)
        return replace(made, targets={"labels": padded(examples, "labels", 0)})


@planted.fault(batch, "tokens are the input tokens")
class CountsRows(LearnsAnswers):
    """It gives the number of rows for that of tokens."""

    def collate(self, examples):
        return replace(super().collate(examples), tokens=len(examples))


@planted.fault(rows, "an example's length is")
class LengthWithTheEnd(LearnsAnswers):
    """An example's length is one more than its inputs are."""

    def example(self, tokens, prompt=0):
        made = super().example(tokens, prompt)
        return replace(made, length=made.length + 1)


@planted.fault(batch, "have the same shape")
class PositionsOfOneRow(LearnsAnswers):
    """Position ids are those of the first row."""

    def collate(self, examples):
        made = super().collate(examples)
        places = made.inputs["position_ids"][:1]
        return replace(made, inputs={**made.inputs, "position_ids": places})


@planted.fault(rows, "gives no example of")
class IgnoresLength(LearnsAnswers):
    """A row may be longer than it was told."""

    def encode(self, record, tokenizer, length):
        record = replace(record, completion=record.completion * 9)
        yield from super().encode(record, tokenizer, 10**6)


@planted.fault(rows, "the same records give the same examples")
class EncodesByChance(LearnsAnswers):
    """It begins at a random place of an answer."""

    def encode(self, record, tokenizer, length):
        start = random.randrange(len(record.completion))
        record = replace(record, completion=record.completion[start:] or "x")
        yield from super().encode(record, tokenizer, length)


@planted.fault(checked_again, "it neither changes the batch nor counts its calls")
class ChangesItsBatch(LearnsAnswers):
    """Its loss changes labels in the batch."""

    def loss(self, hidden_BTD, head, batch):
        found = super().loss(hidden_BTD, head, batch)
        batch.targets["labels"][:, -1] = IGNORE
        return found


@planted.fault(checked_again, "it neither changes the batch nor counts its calls")
class CountsItsCalls(LearnsAnswers):
    """Its loss grows call by call, and no checkpoint knows the count."""

    def __init__(self, config, context):
        self.calls = itertools.count(1)

    def loss(self, hidden_BTD, head, batch):
        scale = 1 - 0.5 ** next(self.calls)
        return {"loss": super().loss(hidden_BTD, head, batch)["loss"] * scale}


@planted.fault(with_a_biased_head, "depends on the head's bias")
class TakesTheWeightOnly(LearnsAnswers):
    """It leaves out the head's bias."""

    def loss(self, hidden_BTD, head, batch):
        return {"loss": cross_entropy(hidden_BTD, head.weight, batch.targets["labels"])}


@planted.fault(trained, "as it is only a metric")
class MetricWithAGradient(LearnsAnswers):
    """A term that is only to be watched is learnt."""

    def collate(self, examples):
        made = super().collate(examples)
        return replace(made, counts={**made.counts, "metric/size": made.tokens})

    def loss(self, hidden_BTD, head, batch):
        return {**super().loss(hidden_BTD, head, batch), "metric/size": hidden_BTD.square().sum()}


@planted.fault(trained)
class WithoutEnd(LearnsAnswers):
    """Answers are learnt without their end."""

    def example(self, tokens, prompt=0):
        return super().example(tokens[:-1], prompt)


@planted.fault(trained)
class LearnsPrompts(LearnsAnswers):
    """It learns prompts as well."""

    def example(self, tokens, prompt=0):
        return super().example(tokens)


@planted.fault(trained, "shares no parameter", of=StaysNear)
class StaysNearItself(StaysNear):
    """What it keeps of the start is the model that learns."""

    def freeze(self, model):
        return {"start": model}


@planted.fault(accumulated, "over micro-batches adds up to", of=Scaled)
class MeanOfItsOwn(Scaled):
    """It divides by its own micro-batch's mean."""

    def settle(self, batch, observed):
        return super().settle(batch, {"tokens": batch.tokens / len(batch.targets["labels"])})
