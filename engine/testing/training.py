"""The contracts of models, adapters and objectives, carried out."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.artifact import Artifact
from engine.component import Batch, Example, Objective, Schema
from engine.config import Config, ObjectiveConfig
from engine.data.records import record_from_row
from engine.estimate import parameters
from engine.modules import backbone, head, hidden_states
from engine.objective import BaseObjective
from engine.testing.standalone import StandAloneContext, require, tiny_model

_LENGTH = 24
_CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}
"""float32 over two layers, summed in another order."""
_SIZE_TOLERANCE = 0.1
"""Of a size that is told: learned positions and the like are not counted."""


def model(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Calling convention, causality, packing, saving, size."""
    from transformers import PreTrainedModel

    torch.manual_seed(0)
    built = new()
    torch.manual_seed(0)
    for (name, a), (_, b) in zip(built.named_parameters(), new().named_parameters(), strict=True):
        require(torch.equal(a, b), f"the same seed gives the same weights, but not in {name}")
    require(isinstance(built, PreTrainedModel), "it is one of transformers' PreTrainedModels")
    require(built.training, "it comes in training mode, or dropout would stay off")
    tokens = len(context.tokenizer())
    require(len(cast("Tensor", head(built).weight)) >= tokens, "the head has a row for every token")
    built.eval()
    _check_packing(built, tokens)
    built.set_attn_implementation("sdpa")  # as strategies do for generation and scoring
    _check_packing(built, tokens)
    ids_BT = torch.arange(12)[None] % tokens
    with torch.no_grad():
        logits = built(input_ids=ids_BT).logits
        require(
            torch.allclose(head(built)(hidden_states(built, input_ids=ids_BT)), logits, **_CLOSE),
            "logits are head(hidden states): the loss is computed from those two",
        )
    with tempfile.TemporaryDirectory() as folder:
        weights = built.state_dict().items()
        saved = Artifact.save(Path(folder, "final"), built, weights, context.tokenizer()).model()
        require(
            torch.allclose(saved(input_ids=ids_BT).logits, logits, **_CLOSE),
            "saved and opened by its Auto class it gives the same logits",
        )
    shape = config.shape(tokens)  # type: ignore[attr-defined]
    if shape is not None:
        told, has = parameters(shape), sum(p.numel() for p in built.parameters())
        require(
            math.isclose(told, has, rel_tol=_SIZE_TOLERANCE),
            f"shape() makes {told} parameters, where the model has {has}",
        )


@torch.no_grad()
def _check_packing(built: Any, tokens: int) -> None:
    """Changes one token in a row of two documents, and looks who notices."""
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
    """Only the addition is trained; merged, the model is a plain one that computes the same."""
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


def objective(new: Callable[[], Any], config: ObjectiveConfig, context: StandAloneContext) -> None:
    """Sums and counts add up over micro-batches, so accumulation gives what one batch gives."""
    built = new()
    built.check(context.tokenizer())
    for schema in sorted(config.takes):
        examples = _examples(built, schema, context)
        require(examples, f"the kit's {schema} records give no example")
        for example in examples:
            require(example.length > 0, "an example has tokens")
            longest = built.collate([example]).inputs["input_ids"].shape[1]
            require(
                longest <= _LENGTH,
                f"encode(…, length={_LENGTH}) gives no example of {longest} tokens in a row",
            )
        tiny = tiny_model(context)
        learns = {id(parameter) for parameter in tiny.parameters()}
        frozen = {n: m.eval() for n, m in built.freeze(tiny).items()}
        for name, other in frozen.items():
            require(
                learns.isdisjoint(map(id, other.parameters())),
                f"what learns is no part of the frozen '{name}'",
            )
        _move(tiny)
        output_head = head(tiny) if config.head == "lm" else nn.Linear(tiny.config.hidden_size, 1)
        whole = built.collate(examples)
        require(
            whole.inputs["input_ids"].shape == whole.inputs["position_ids"].shape,
            "input_ids and position_ids have the same shape, _BT",
        )
        require(whole.tokens == sum(e.length for e in examples), "tokens are the input tokens")
        parts = [built.collate([example]) for example in examples]
        sums, gradient = _loss(built, frozen, tiny, output_head, [whole])
        part_sums, part_gradient = _loss(built, frozen, tiny, output_head, parts)
        for name, total in sums.items():
            require(math.isfinite(total), f"{name} is {total}")
            require(
                math.isclose(part_sums[name], total, rel_tol=1e-3, abs_tol=1e-3),
                f"{name} over micro-batches adds up to {part_sums[name]}, in one batch to {total}",
            )
        for a, b in zip(gradient, part_gradient, strict=True):
            require(
                torch.allclose(a, b, rtol=1e-2, atol=1e-4),
                "gradients accumulated over micro-batches are those of one batch",
            )


def _loss(
    built: Objective,
    frozen: Mapping[str, nn.Module],
    tiny: Any,
    output_head: nn.Module,
    batches: Sequence[Batch],
) -> tuple[dict[str, float], list[Tensor]]:
    """Sums by term, and the gradient of Σ_terms sum / count."""
    counts: dict[str, int] = {}
    sums: dict[str, Any] = {}
    if isinstance(built, BaseObjective) and built.observes:
        batches = _settled(built, tiny, batches)
    for batch in batches:
        with torch.no_grad():
            batch = built.annotate(batch, frozen)
        terms = built.loss(hidden_states(tiny, **batch.inputs), output_head, batch)
        require(
            set(terms) == set(batch.counts), f"terms {set(terms)} but counts {set(batch.counts)}"
        )
        for name, term in terms.items():
            require(term.shape == () and term.dtype == torch.float32, f"{name} is a float32 scalar")
            require(isinstance(batch.counts[name], int), f"counts['{name}'] is a whole number")
            counts[name] = counts.get(name, 0) + batch.counts[name]
            sums[name] = sums.get(name, 0) + term
    loss = sum(sums[name] / max(counts[name], 1) for name in sums)
    parameters = list(backbone(tiny).parameters())
    gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(gradient, parameters, strict=True)
    return (
        {name: float(total.detach()) for name, total in sums.items()},
        [torch.zeros_like(p) if g is None else g for g, p in pairs],
    )


@torch.no_grad()
def _move(tiny: nn.Module) -> None:
    """As after some steps: no longer what was frozen."""
    generator = torch.Generator().manual_seed(0)
    for parameter in tiny.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)


@torch.no_grad()
def _settled(built: BaseObjective, tiny: nn.Module, batches: Sequence[Batch]) -> list[Batch]:
    """The micro-batches with the means over all of them of what was observed."""
    totals: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for name, (total, count) in built.observe(batch, tiny).items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = (before[0] + total, before[1] + count)
    means = {name: total / max(count, 1.0) for name, (total, count) in totals.items()}
    return [built.settle(batch, means) for batch in batches]


def _examples(built: Objective, schema: Schema, context: StandAloneContext) -> list[Example]:
    """What the objective makes of a few records of different lengths."""
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
        record = record_from_row(schema, row, id=f"kit-{number}", source="kit")
        made = built.encode(record, context.tokenizer(), _LENGTH)
        examples.extend(e for e in made if not isinstance(e, str))
    return built.arrange(examples, _LENGTH)
