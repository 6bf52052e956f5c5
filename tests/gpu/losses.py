"""The loss and the gradient of every objective but `trl-ppo`, beside those of a CPU in float32."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from engine_inference.language_model import SharedPrefixLM
from rows import Rows, at_most
from steps import narrowed
from torch import nn

from engine.contracts.batch import Batch
from engine.modeling import (
    attend,
    head,
    hidden_states,
    place,
    with_scalar_head,
)
from engine.storage.model_folder import Artifact
from engine.testing import StandAloneContext, examples_of, frozen_beside, move
from engine.testing.standalone import tiny_model

_SHORT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ m.content }}:{% endif %}{% endfor %}"
)
_ONLINE = {"rewards": [{"type": "length"}], "answer_tokens": 6}
_OBJECTIVES: dict[str, dict[str, Any]] = {
    "next-token": {},
    "sft": {"template": _SHORT},
    "reward": {},
    "cost": {},
    "dpo": {},
    "kto": {},
    "distill": {"teacher": "teacher"},
    "ppo": {**_ONLINE, "constraints": [{"reward": {"type": "length", "scale": 3}, "limit": 0.5}]},
    "rloo": _ONLINE,
    "grpo": {**_ONLINE, "kl": 0.1},
}
_TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""Of the loss, relative: some hundred roundings of the type's, of which losses near 0 are differences.
The gradient's direction may differ by as much."""
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def rows(device: str) -> Rows:
    """The largest relative difference of a term, and that of the gradient, by objective."""
    with tempfile.TemporaryDirectory() as scratch:
        context = StandAloneContext()
        teacher = Path(scratch, "final")
        model = tiny_model(context)
        for _ in range(2):
            move(model)
        Artifact.save(teacher, model, model.state_dict().items(), context.tokenizer())
        context = StandAloneContext(folders={"teacher": teacher})
        for name, fields in _OBJECTIVES.items():
            yield from _compared(context, {"type": name, **fields}, device)


def _compared(context: StandAloneContext, settings: Mapping[str, Any], device: str) -> Rows:
    config: Any = context.config("objective", settings)
    built, model, frozen = _made(context, config)
    batch = built.collate(_examples(context, built, config, model, frozen))
    wanted, gradient = _loss(context, config, batch, "cpu", "fp32")
    for precision, tolerance in _TOLERANCES.items():
        found, other = _loss(context, config, batch, device, precision)
        apart = max(abs(found[n] - v) / max(1e-2, abs(v)) for n, v in wanted.items())
        turned = 1 - float(torch.cosine_similarity(gradient.double(), other.double(), 0))
        yield at_most(f"{settings['type']} {precision}: loss", apart, tolerance)
        yield at_most(f"{settings['type']} {precision}: gradient", turned, tolerance)


def _examples(
    context: StandAloneContext,
    built: Any,
    config: Any,
    model: nn.Module,
    frozen: Mapping[str, nn.Module],
) -> Sequence[Any]:
    examples = examples_of(built, min(config.takes), context)
    if not built.unbatched:
        return examples
    asked = {"model": copy.deepcopy(model), **copy.deepcopy(dict(frozen))}
    for name, companion in built.companions(model).items():
        asked[name] = companion.model
    for other in asked.values():
        attend(other.eval())
    models = {name: SharedPrefixLM(m, context.tokenizer()) for name, m in asked.items()}
    with torch.no_grad():
        return built.learn(built.collect(1, dict(enumerate(examples)), models)).episodes


def _loss(
    context: StandAloneContext, config: Any, batch: Batch, device: str, precision: str
) -> tuple[dict[str, float], torch.Tensor]:
    """Means by term, and the gradient of their sum over the backbone, on the CPU."""
    built, model, frozen = _made(context, config)
    move(model)  # or a difference to the frozen one would be 0
    for one in (model, *frozen.values()):
        narrowed(one, device, _TYPES[precision])
    if built.observes:
        with torch.no_grad():
            seen = built.observe(batch, model)
        batch = built.settle(
            batch, {n: total / max(count, 1) for n, (total, count) in seen.items()}
        )
    setup: Any = SimpleNamespace(objective=built, frozen=frozen)
    placed = place(batch, torch.device(device), setup)
    terms = built.loss(hidden_states(model, **placed.inputs), head(model), placed)
    means = {
        name: term / max(placed.counts[name], 1)
        for name, term in terms.items()
        if not name.startswith("metric/")  # shares, such as of pairs in the right order
    }
    sum(means.values()).backward()
    gradients = [p.grad for p in model.base_model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.float().flatten() for gradient in gradients])
    return {n: float(v.detach()) for n, v in means.items()}, flat.cpu()


def _made(context: StandAloneContext, config: Any) -> tuple[Any, nn.Module, dict[str, nn.Module]]:
    """The objective, the model and the frozen ones, each time the same."""
    built = context.component("objective", config)
    built.check(context.tokenizer())
    model = tiny_model(context)
    if config.head == "scalar":
        model = with_scalar_head(model, 0)
    return built, model, frozen_beside(built, model)
