"""Checks that objectives keep their contract."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.contracts.batch import Batch, Example
from engine.contracts.component import Schema
from engine.contracts.component_config import ObjectiveConfig
from engine.contracts.objective import Objective
from engine.contracts.records import record_from_row
from engine.modeling.heads import backbone, head, hidden_states
from engine.modeling.output_head import head_parts
from engine.testing.inference.forward_pass import lively_model
from engine.testing.objectives.labels import check_labels
from engine.testing.requirements import require
from engine.testing.standalone import StandAloneContext, tiny_model

LENGTH = 24
"""Largest number of tokens of an example."""


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that learns, its head and its objective."""

    objective: Objective
    model: Any
    head: nn.Module


def objective(built: Objective, config: ObjectiveConfig, context: StandAloneContext) -> None:
    """Checks examples, what the loss is about, and that sums and counts add up over micro-batches."""
    for schema in sorted(config.takes):
        encoded = _encoded(built, schema, context)
        again = _encoded(built, schema, context)
        require(
            list(map(_told, encoded)) == list(map(_told, again)),
            "the same records give the same examples, as a resumed run encodes them anew",
        )
        examples = _arranged(built, encoded)
        for example in examples:
            _check_row(built, example)
        check_learning(built, config, context, examples)
        if len(examples) < len(encoded) and config.head == "lm":
            _check_packed(built, lively_model(context), encoded, examples)


def check_learning(
    built: Objective,
    config: ObjectiveConfig,
    context: StandAloneContext,
    examples: Sequence[Example],
) -> None:
    """As :func:`check_sums`, with a small model and what the objective freezes beside it; checks labels
    as well."""
    tiny = tiny_model(context)
    frozen = frozen_beside(built, tiny)
    move(tiny)
    output_head = head(tiny) if config.head == "lm" else nn.Linear(tiny.config.hidden_size, 1)
    check_sums([Learner(built, tiny, output_head)], frozen, examples)
    if config.head == "lm":
        batch = built.collate(examples)
        if built.observes:
            (batch,) = _settled(built, tiny, [batch])
        with torch.no_grad():
            batch = built.annotate(batch, frozen)
        check_labels(built, batch, len(examples), len(head_parts(output_head)[0]))


def _told(example: Example) -> str:
    fields = {n: v.tolist() if hasattr(v, "tolist") else v for n, v in example.fields.items()}
    return f"{example.length} {sorted(fields.items())}"


def _check_row(built: Objective, example: Example) -> None:
    inputs = built.collate([example]).inputs
    rows, longest = inputs["input_ids"].shape
    require(
        longest <= LENGTH,
        f"encode(…, length={LENGTH}) gives no example of {longest} tokens in a row",
    )
    require(
        example.length <= rows * longest,
        f"an example's length is its number of input tokens, at most {rows * longest} here, not "
        f"{example.length}",
    )
    places_BT = inputs["position_ids"]
    if places_BT.shape != (rows, longest):
        return  # check_sums says so
    begins, follows = places_BT == 0, places_BT[:, 1:] == places_BT[:, :-1] + 1
    require(
        bool(begins[:, 0].all()) and bool((begins[:, 1:] | follows).all()),
        f"position_ids begin at 0 with each document and go on by 1, unlike {places_BT[0].tolist()}",
    )


def _check_packed(
    built: Objective, model: Any, encoded: Sequence[Example], rows: Sequence[Example]
) -> None:
    """Checks that examples which share a row have the loss that each has alone."""
    learners, frozen = [Learner(built, model, head(model))], built.freeze(model)
    alone, _ = _loss(learners, frozen, [built.collate([example]) for example in encoded])
    together, _ = _loss(learners, frozen, [built.collate([row]) for row in rows])
    for name, total in alone.items():
        require(
            math.isclose(together[name], total, rel_tol=1e-4, abs_tol=1e-3),
            f"{name} of examples packed into rows is the sum of what each has alone, {total:.6g}, not "
            f"{together[name]:.6g}: position_ids begin at 0 with each document",
        )


def frozen_beside(built: Objective, tiny: nn.Module) -> dict[str, nn.Module]:
    """The objective's frozen models; checks that they share no parameter with the learning one."""
    learns = {id(parameter) for parameter in tiny.parameters()}
    frozen = {n: m.eval() for n, m in built.freeze(tiny).items()}
    for name, other in frozen.items():
        require(
            learns.isdisjoint(map(id, other.parameters())),
            f"the frozen '{name}' shares no parameter with the model that learns",
        )
    return frozen


def check_sums(
    learners: Sequence[Learner], frozen: Mapping[str, nn.Module], examples: Sequence[Example]
) -> None:
    """Checks that micro-batches give the sums and gradients of one batch; the first learner makes
    them."""
    collate = learners[0].objective.collate
    whole = collate(examples)
    require(
        whole.inputs["input_ids"].shape == whole.inputs["position_ids"].shape,
        "input_ids and position_ids have the same shape, _BT",
    )
    require(whole.tokens == sum(e.length for e in examples), "tokens are the input tokens")
    parts = [collate([example]) for example in examples]
    sums, gradients = _loss(learners, frozen, [whole])
    again, _ = _loss(learners, frozen, [whole])
    for name, total in sums.items():
        require(
            again[name] == total or not math.isfinite(total),
            f"{name} of a micro-batch is {total:.6g}, and computed again {again[name]:.6g}: it neither "
            "changes the batch nor counts its calls",
        )
    part_sums, part_gradients = _loss(learners, frozen, parts)
    for name, total in sums.items():
        require(math.isfinite(total), f"{name} is {total}")
        require(
            math.isclose(part_sums[name], total, rel_tol=1e-3, abs_tol=1e-3),
            f"{name} over micro-batches adds up to {part_sums[name]}, in one batch to {total}",
        )
    for gradient, part_gradient in zip(gradients, part_gradients, strict=True):
        require(any(bool(part.any()) for part in gradient), "the loss has a gradient")
        for expected, accumulated in zip(gradient, part_gradient, strict=True):
            require(
                torch.allclose(expected, accumulated, rtol=1e-2, atol=1e-4),
                "gradients accumulated over micro-batches are those of one batch",
            )


def _loss(
    learners: Sequence[Learner], frozen: Mapping[str, nn.Module], batches: Sequence[Batch]
) -> tuple[dict[str, float], list[list[Tensor]]]:
    """Sums by term, and each learner's gradient of Σ_terms sum / count."""
    counts: dict[str, int] = {}
    sums: dict[str, Any] = {}
    main = learners[0].objective
    if main.observes:
        batches = _settled(main, learners[0].model, batches)
    for batch in batches:
        with torch.no_grad():
            batch = main.annotate(batch, frozen)
        terms: dict[str, Tensor] = {}
        for learner in learners:
            hidden_BTD = hidden_states(learner.model, **batch.inputs)
            found = learner.objective.loss(hidden_BTD, learner.head, batch)
            require(
                isinstance(found, Mapping), f"loss gives sums by term, not {type(found).__name__}"
            )
            terms |= found
        require(
            set(terms) == set(batch.counts), f"terms {set(terms)} but counts {set(batch.counts)}"
        )
        for name, term in terms.items():
            watched = not name.startswith("metric/") or not term.requires_grad
            require(watched, f"{name} has no gradient, as it is only a metric: detach it")
            require(term.shape == () and term.dtype == torch.float32, f"{name} is a float32 scalar")
            require(isinstance(batch.counts[name], int), f"counts['{name}'] is a whole number")
            counts[name] = counts.get(name, 0) + batch.counts[name]
            sums[name] = sums.get(name, 0) + term
    loss = sum(sums[name] / max(counts[name], 1) for name in sums)
    gradients = []
    for learner in learners:
        parameters = list(backbone(learner.model).parameters())
        gradient = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        pairs = zip(gradient, parameters, strict=True)
        gradients.append([torch.zeros_like(p) if g is None else g for g, p in pairs])
    return {name: float(total.detach()) for name, total in sums.items()}, gradients


@torch.no_grad()
def move(tiny: nn.Module) -> None:
    """Changes the weights, as steps do, so that they differ from the frozen copies."""
    generator = torch.Generator().manual_seed(0)
    for parameter in tiny.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)


@torch.no_grad()
def _settled(built: Objective, tiny: nn.Module, batches: Sequence[Batch]) -> list[Batch]:
    """The micro-batches, settled with the means of observed figures over all of them."""
    totals: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for name, (total, count) in built.observe(batch, tiny).items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = (before[0] + total, before[1] + count)
    means = {name: total / max(count, 1.0) for name, (total, count) in totals.items()}
    return [built.settle(batch, means) for batch in batches]


def examples_of(built: Objective, schema: Schema, context: StandAloneContext) -> list[Example]:
    """Examples that the objective makes of a few records of different lengths; at least one."""
    return _arranged(built, _encoded(built, schema, context))


def _arranged(built: Objective, encoded: list[Example]) -> list[Example]:
    arranged = built.arrange(list(encoded), LENGTH)
    before, after = (sum(example.length for example in some) for some in (encoded, arranged))
    require(after >= before, f"arrange keeps all {before} tokens of its examples, not only {after}")
    return arranged


def _encoded(built: Objective, schema: Schema, context: StandAloneContext) -> list[Example]:
    examples: list[Example] = []
    texts = list(context.documents[:4])
    if schema == "text":
        texts += [" ".join(text.split()[:2]) for text in texts[:2]]  # two fit into a row
    for number, text in enumerate(texts):
        words = text.split()
        question, answer = " ".join(words[:2]), " ".join(words[2 : 4 + number])
        row = {
            "text": text,
            "prompt": question,
            "completion": answer,
            "completions": [answer],
            "chosen": answer,
            "rejected": answer[::-1],
            "label": True,
            "labels": [True],
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ],
        }
        row |= context.rows[number % len(context.rows)]
        record = record_from_row(schema, row, id=f"kit-{number}", source="kit")
        made = built.encode(record, context.tokenizer(), LENGTH)
        require(
            isinstance(made, Iterable), f"encode gives several examples, not {type(made).__name__}"
        )
        for example in made:
            right = isinstance(example, Example | str)
            require(
                right,
                f"encode gives examples, or the reason for none, not {type(example).__name__}",
            )
            if not isinstance(example, str):
                examples.append(example)
    require(examples, f"the kit's {schema} records give no example of {LENGTH} tokens at most")
    require(all(example.length > 0 for example in examples), "an example has tokens")
    return examples


def unbatched(examples: Sequence[Example]) -> None:
    """Checks examples that are never collated: ``engine data`` shows their ``input_ids``."""
    for example in examples:
        ids = list(example.fields.get("input_ids", ()))
        require(len(ids) == example.length, "an example has its tokens as input_ids")
