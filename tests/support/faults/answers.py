"""Right objectives, and what runs with them give."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from support.faults.fault import Planted, kit
from support.models import tiny

from engine import Batch, Completion, Example, Objective, ObjectiveConfig, Text
from engine.modeling import (
    IGNORE,
    cross_entropy,
    document_tokens,
    head,
    hidden_states,
    pack,
    padded,
)

LENGTH = 24


class Answers(ObjectiveConfig):
    """Reads prompts and learns answers."""

    takes: ClassVar = frozenset({"completion"})


class Documents(ObjectiveConfig):
    """Learns texts."""

    takes: ClassVar = frozenset({"text"})


planted = Planted("objective", Answers)


class Tokens(Objective):
    """Right: the next token."""

    def __init__(self, config, context):
        pass

    def example(self, tokens, prompt=0):
        tokens = np.array(tokens)
        labels = np.where(np.arange(len(tokens)) < prompt, IGNORE, tokens)[1:]
        places = np.arange(len(labels))
        fields = {"input_ids": tokens[:-1], "position_ids": places, "labels": labels}
        return Example(len(labels), fields)

    def collate(self, examples):
        labels = padded(examples, "labels", IGNORE)
        return Batch(
            inputs={name: padded(examples, name, 0) for name in ("input_ids", "position_ids")},
            targets={"labels": labels},
            counts={"loss": int((labels != IGNORE).sum())},
            tokens=sum(example.length for example in examples),
        )

    def loss(self, hidden_BTD, head, batch):
        return {"loss": cross_entropy(hidden_BTD, head, batch.targets["labels"])}


@planted.right
class LearnsAnswers(Tokens):
    """Right."""

    def encode(self, record, tokenizer, length):
        prompt = tokenizer.encode(record.prompt, add_special_tokens=False)
        answer = tokenizer.encode(record.completion, add_special_tokens=False)
        tokens = [*prompt, *answer, tokenizer.eos_token_id]
        if len(tokens) - 1 <= length:
            yield self.example(tokens, len(prompt))


@planted.right_with(Documents)
class LearnsTexts(Tokens):
    """Right: texts, several in a row."""

    def encode(self, record, tokenizer, length):
        tokens = document_tokens(tokenizer, record.text)
        for start in range(0, len(tokens) - 1, length):
            yield self.example(tokens[start : start + length + 1])

    def arrange(self, examples, length):
        rows = pack([example.length for example in examples], length)
        return [self.joined([examples[i] for i in row]) for row in rows]

    def joined(self, some):
        names = ("input_ids", "position_ids", "labels")
        fields = {name: np.concatenate([one.fields[name] for one in some]) for name in names}
        return Example(sum(one.length for one in some), fields)


@planted.right
class StaysNear(LearnsAnswers):
    """Right: the head stays near where it began."""

    def freeze(self, model):
        return {"start": copy.deepcopy(model)}

    def annotate(self, batch, frozen):
        start = frozen["start"].lm_head.weight.detach()
        return replace(batch, targets={**batch.targets, "start": start})

    def loss(self, hidden_BTD, head, batch):
        away = (head.weight - batch.targets["start"]).square().sum()
        return {"loss": super().loss(hidden_BTD, head, batch)["loss"] + 50 * batch.tokens * away}


@planted.right
class Scaled(LearnsAnswers):
    """Right: divides by the mean number of tokens of all micro-batches."""

    observes = True

    def observe(self, batch, model):
        return {"tokens": (float(batch.tokens), float(len(batch.targets["labels"])))}

    def settle(self, batch, observed):
        mean = torch.tensor(observed["tokens"])
        return replace(batch, targets={**batch.targets, "mean": mean})

    def loss(self, hidden_BTD, head, batch):
        return {"loss": super().loss(hidden_BTD, head, batch)["loss"] / batch.targets["mean"]}


RECORDS = [
    Completion(id=f"c{n}", source="kit", prompt="ab" * (n + 1), completion="cd" * (1 + n % 3))
    for n in range(4)
]
TEXTS = [
    Text(id=f"t{n}", source="kit", text="old towns have bridges"[: 4 + 4 * n]) for n in range(4)
]


def _model():
    return tiny("gpt2", vocab_size=len(kit().tokenizer()))


def examples_of(built, records=None):
    records = records or (TEXTS if isinstance(built, LearnsTexts) else RECORDS)
    tokenizer = kit().tokenizer()
    made = [e for record in records for e in built.encode(record, tokenizer, LENGTH)]
    return built.arrange([e for e in made if not isinstance(e, str)], LENGTH)


def _trained(built, batches):
    """Losses of two steps over these micro-batches."""
    model, losses = _model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    frozen = built.freeze(model)
    for _ in range(2):
        if built.observes:
            batches = _settled(built, model, batches)
        batches = [built.annotate(batch, frozen) for batch in batches]
        counts = sum(batch.counts["loss"] for batch in batches)
        total = 0.0
        for batch in batches:
            terms = built.loss(hidden_states(model, **batch.inputs), head(model), batch)
            loss = sum(terms.values()) / counts
            loss.backward()
            total += float(terms["loss"].detach()) / counts
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def _settled(built, model, batches):
    found = [built.observe(batch, model)["tokens"] for batch in batches]
    mean = sum(total for total, _ in found) / sum(count for _, count in found)
    return [built.settle(batch, {"tokens": mean}) for batch in batches]


def trained(make):
    """Losses of steps of one batch."""
    built = make()
    return _trained(built, [built.collate(examples_of(built))])


def accumulated(make):
    """Losses of steps of four micro-batches."""
    built = make()
    return _trained(built, [built.collate([example]) for example in examples_of(built)])


def trained_twice(make):
    """Losses of two stages of a process."""
    return [trained(make), trained(make)]


def rows(make):
    """Tokens and length of each row."""
    return [
        (example.length, example.fields["input_ids"].tolist()) for example in examples_of(make())
    ]


def batch(make):
    """Tokens that a step counts, and the shapes of its inputs."""
    built = make()
    made = built.collate(examples_of(built))
    return [made.tokens, {name: list(t.shape) for name, t in made.inputs.items()}]


def checked_again(make):
    """The loss of a micro-batch, and once more, as the check for silent faults computes it."""
    built, model = make(), _model()
    made = built.collate(examples_of(built))
    losses = [built.loss(hidden_states(model, **made.inputs), head(model), made) for _ in range(2)]
    return [float(found["loss"].detach()) for found in losses]


def with_a_biased_head(make):
    """The loss of a model whose head has a bias."""
    built, model = make(), _model()
    made = built.collate(examples_of(built))
    output = torch.nn.Linear(*model.lm_head.weight.shape[::-1])
    torch.nn.init.normal_(output.bias, std=3.0, generator=torch.Generator().manual_seed(0))
    output.weight = model.lm_head.weight
    return float(built.loss(hidden_states(model, **made.inputs), output, made)["loss"].detach())
