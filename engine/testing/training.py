"""Checks that models, adapters and objectives keep their contracts."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.contracts.batch import Batch, Example
from engine.contracts.component import Schema
from engine.contracts.component_config import ObjectiveConfig
from engine.contracts.config import Config
from engine.contracts.model_sizes import parameter_count
from engine.contracts.objective import Objective, Objective as BaseObjective
from engine.contracts.records import record_from_row
from engine.errors import EngineError, SpecError
from engine.modeling.heads import (
    attend,
    backbone,
    head,
    hidden_states,
)
from engine.modeling.model_check import examine
from engine.modeling.output_head import head_parts
from engine.registry import Plugins
from engine.spec.architectures import check_reopens
from engine.storage.model_folder import Artifact
from engine.testing.standalone import StandAloneContext, require, tiny_model

LENGTH = 24
"""Largest number of tokens of an example."""
_CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}
"""Tolerance for float32 sums over two layers in another order."""
_SIZE_TOLERANCE = 0.1
"""Relative tolerance of a declared size, which leaves out learned positions and the like."""


def model(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks calling convention, causality, packing, saving and size."""
    from transformers import PreTrainedModel

    torch.manual_seed(0)
    built = new()
    torch.manual_seed(0)
    again = dict(new().named_parameters())
    for name, weight in built.named_parameters():
        require(torch.equal(weight, again[name]), f"the same seed gives the same weights in {name}")
    require(isinstance(built, PreTrainedModel), "it is one of transformers' PreTrainedModels")
    require(built.training, "it comes in training mode, or dropout would stay off")
    tokens = len(context.tokenizer())
    weight, _, _ = head_parts(head(built))
    require(len(weight) >= tokens, "the head has a row for every token")
    built.eval()
    _check_packing(built, tokens)
    try:
        examine(built, learns=True)
    except SpecError as error:
        require(False, f"logits are head(hidden states), from which losses are computed: {error}")
    attend(built)  # as strategies do for generation and scoring
    _check_packing(built, tokens)
    ids_BT = torch.arange(12)[None] % tokens
    with torch.no_grad():
        logits = built(input_ids=ids_BT).logits
        require(
            torch.allclose(head(built)(hidden_states(built, input_ids=ids_BT)), logits, **_CLOSE),
            "logits are head(hidden states), from which losses are computed",
        )
    try:
        check_reopens(built, Plugins.discover())
    except EngineError as error:
        require(False, f"what was trained opens again: {error}")
    with tempfile.TemporaryDirectory() as folder:
        weights = built.state_dict().items()
        saved = Artifact.save(Path(folder, "final"), built, weights, context.tokenizer()).model()
        require(
            torch.allclose(saved(input_ids=ids_BT).logits, logits, **_CLOSE),
            "saved and opened by its Auto class, it gives the same logits",
        )
    shape = config.built_shape(tokens)  # type: ignore[attr-defined]
    if shape is not None:
        declared, has = parameter_count(shape), sum(p.numel() for p in built.parameters())
        require(
            math.isclose(declared, has, rel_tol=_SIZE_TOLERANCE),
            f"shape() declares {declared} parameters, but the model has {has}",
        )


@torch.no_grad()
def _check_packing(built: Any, tokens: int) -> None:
    """Changes one token in a row of two documents, and compares all positions' hidden states."""
    ids_BT = torch.arange(12)[None] % tokens
    position_ids = torch.arange(6).repeat(2)[None]
    whole_BTD = hidden_states(built, input_ids=ids_BT, position_ids=position_ids)
    changed_BT = ids_BT.clone()
    changed_BT[0, 3] = (changed_BT[0, 3] + 1) % tokens
    changed_BTD = hidden_states(built, input_ids=changed_BT, position_ids=position_ids)
    moved_T = (changed_BTD - whole_BTD).abs().amax((0, 2)) > 1e-6
    require(not moved_T[:3].any(), "no position sees what comes after it")
    require(bool(moved_T[3:6].all()), "every position sees what comes before it in its document")
    require(not moved_T[6:].any(), "packed documents do not see each other")


def adapter(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks that only the adapter trains, and that merging gives a plain model of equal output."""
    base = tiny_model(context)
    names, before = set(base.state_dict()), copy.deepcopy(base.state_dict())
    plain = {p.data_ptr() for p in base.parameters()}
    built = new()
    attached = built.attach(base)
    trained = [p for p in attached.parameters() if p.requires_grad]
    require(trained, "attach leaves something to train")
    require(
        not any(p.data_ptr() in plain for p in trained),
        "everything but the addition is frozen",
    )
    ids_BT = torch.arange(12)[None]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        logits = attached.eval()(input_ids=ids_BT).logits
        merged = built.merge(attached)
        require(set(merged.state_dict()) == names, "merged, it has the plain model's weights")
        require(
            torch.allclose(merged(input_ids=ids_BT).logits, logits, **_CLOSE),
            "merged, it gives the same logits",
        )
    same = all(torch.equal(t, before[n]) for n, t in merged.state_dict().items())
    require(not same, "merged weights hold what was trained")


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that learns, its head and its objective."""

    objective: Objective
    model: Any
    head: nn.Module


def objective(built: Objective, config: ObjectiveConfig, context: StandAloneContext) -> None:
    """Checks that sums and counts add up over micro-batches, so that accumulation equals one batch."""
    for schema in sorted(config.takes):
        examples = examples_of(built, schema, context)
        for example in examples:
            longest = built.collate([example]).inputs["input_ids"].shape[1]
            require(
                longest <= LENGTH,
                f"encode(…, length={LENGTH}) gives no example of {longest} tokens in a row",
            )
        check_learning(built, config, context, examples)


def check_learning(
    built: Objective,
    config: ObjectiveConfig,
    context: StandAloneContext,
    examples: Sequence[Example],
) -> None:
    """As :func:`check_sums`, with a small model and what the objective freezes beside it."""
    tiny = tiny_model(context)
    frozen = frozen_beside(built, tiny)
    move(tiny)
    output_head = head(tiny) if config.head == "lm" else nn.Linear(tiny.config.hidden_size, 1)
    check_sums([Learner(built, tiny, output_head)], frozen, examples)


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
            require(isinstance(found, Mapping), f"loss gives sums by term, not {_type(found)}")
            terms |= found
        require(
            set(terms) == set(batch.counts), f"terms {set(terms)} but counts {set(batch.counts)}"
        )
        for name, term in terms.items():
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


def _type(value: object) -> str:
    return type(value).__name__


@torch.no_grad()
def move(tiny: nn.Module) -> None:
    """Changes the weights, as steps do, so that they differ from the frozen copies."""
    generator = torch.Generator().manual_seed(0)
    for parameter in tiny.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)


@torch.no_grad()
def _settled(built: BaseObjective, tiny: nn.Module, batches: Sequence[Batch]) -> list[Batch]:
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
    examples: list[Example] = []
    for number, text in enumerate(context.documents[:4]):
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
        require(isinstance(made, Iterable), f"encode gives several examples, not {_type(made)}")
        for example in made:
            right = isinstance(example, Example | str)
            require(right, f"encode gives examples, or the reason for none, not {_type(example)}")
            if not isinstance(example, str):
                examples.append(example)
    require(examples, f"the kit's {schema} records give no example of {LENGTH} tokens at most")
    require(all(example.length > 0 for example in examples), "an example has tokens")
    return built.arrange(examples, LENGTH)


def unbatched(examples: Sequence[Example]) -> None:
    """Checks examples that are never collated: ``engine data`` shows their ``input_ids``."""
    for example in examples:
        ids = list(example.fields.get("input_ids", ()))
        require(len(ids) == example.length, "an example has its tokens as input_ids")
