"""Trains tiny models on grids of processes and on one, and writes what each rank saw.

    torchrun --nproc-per-node 2 grid_ranks.py FOLDER '[{"grid": {"shard": 2}, "model": "llama"}, …]'

FOLDER/told.json: for each job, one entry per rank. Started by test_mesh.py.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from engine_lm import attention
from engine_lm.next_token import NextTokenObjective
from engine_lm.trials.tiny_config import tiny_config
from engine_parallel.config import Mesh, Single
from engine_parallel.mesh.strategy import build as build_mesh
from engine_parallel.replicated import build_single
from transformers import AutoConfig, AutoModelForCausalLM

from engine import Example, Setup, SpecError
from engine.modeling import examine, layers

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "untied": {"model_type": "llama"},
    "deep": {"model_type": "llama", "num_hidden_layers": 4},
    "dropped": {"model_type": "llama", "attention_dropout": 0.1},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mistral": {"sliding_window": 4, "initializer_range": 0.2},
    "starcoder2": {"sliding_window": 4, "initializer_range": 0.2},
    "phi3": {"sliding_window": 4, "initializer_range": 0.2},
    "granite": {"embedding_multiplier": 6.0, "initializer_range": 0.2},
    "gemma3_text": {
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
        "head_dim": 8,
    },
    "deep-experts": {
        "model_type": "mixtral",
        "num_hidden_layers": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "afmoe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_dense_layers": 1,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


RATE = 1e-2


class Poisonable(NextTokenObjective):
    """Multiplies the loss, and so its gradient, on this rank."""

    factor = 1.0

    def loss(self, *arguments: Any) -> dict[str, torch.Tensor]:
        return {name: value * self.factor for name, value in super().loss(*arguments).items()}


def main(folder: Path, jobs: list[dict[str, Any]]) -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    told = []
    for job in jobs:
        gathered: list[Any] = [None] * size
        dist.all_gather_object(gathered, _seen(job, rank, size))
        told.append(gathered)
    if rank == 0:
        (folder / "told.json").write_text(json.dumps(told))
    dist.destroy_process_group()


def _seen(job: dict[str, Any], rank: int, size: int) -> dict[str, Any]:
    """What this rank has of a job's grid, beside what one process has."""
    context = SimpleNamespace(rank=rank, world_size=size, device=torch.device("cpu"))
    strategy = build_mesh(Mesh(**job["grid"]), context)
    model, steps = job["model"], job.get("steps", 2)
    precision = job.get("precision", "fp32")

    def new(**more: Any) -> Setup:
        return Setup(_model(model), _optimizer, Poisonable(), precision=precision, ema=0.9, **more)

    try:
        strategy.prepare(new(compile=job.get("compile", False)))
    except SpecError as error:
        return {"refused": str(error)}
    found = {"data_size": strategy.data_size}
    if job.get("draws"):
        return found | _draws(strategy)
    lengths = _lengths_in_layers(strategy)
    found |= _trained(strategy, steps) | _held(strategy) | {"lengths": sorted(set(lengths))}
    alone = _alone(new(), steps, rank)
    weights, logits = {n: t.clone() for n, t in strategy.export()}, _logits(strategy)
    if rank == 0:
        reference = alone.pop("weights")
        found["names"] = list(weights) == list(reference)
        found["types"] = all(_kind(weights[n]) == _kind(reference[n]) for n in reference)
        found["apart"] = max(float((weights[n] - reference[n]).abs().max()) for n in reference)
        found["logits_apart"] = float((logits - alone.pop("logits")).abs().max())
        found |= alone
    if not job.get("brief"):
        found["poisoned"] = _poisoned(strategy)
        other = build_mesh(strategy._config, context)
        other._divide((setup := new()), setup.model)
        found["resumes"] = _resumes(strategy, other, steps)
    return found


def _trained(strategy: Any, steps: int) -> dict[str, Any]:
    both = [_step(strategy, number)[:2] for number in range(steps)]
    return {"losses": [loss for loss, _ in both], "norms": [norm for _, norm in both]}


_known: dict[tuple[Any, ...], dict[str, Any]] = {}


def _alone(setup: Setup, steps: int, rank: int) -> dict[str, Any]:
    """What one process makes of it, on rank 0 only."""
    if rank:
        return {}
    model: Any = setup.model
    key = (json.dumps(model.config.to_dict(), default=str), setup.precision, steps)
    if key not in _known:
        context = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"))
        strategy = build_single(Single(), context)
        strategy.prepare(setup)
        seen = _trained(strategy, steps)
        _known[key] = {
            "losses_alone": seen["losses"],
            "norms_alone": seen["norms"],
            "weights": {n: t.clone() for n, t in strategy.export()},
            "logits": _logits(strategy),
        }
    return dict(_known[key])


def _logits(strategy: Any) -> torch.Tensor:
    with strategy.inference() as whole, torch.no_grad():
        logits: torch.Tensor = whole(input_ids=torch.arange(8)[None]).logits.float()
    return logits


def _draws(strategy: Any) -> dict[str, Any]:
    """States of torch's generator as a step enters layers, and as it computes the loss."""
    inside, objective, compute = [], strategy._model._setup.objective, NextTokenObjective.loss
    before: list[str] = []
    for decoder in _decoders(strategy):
        decoder.body.rotary_emb.register_forward_pre_hook(lambda *_: before.append(_generator()))
        for layer in decoder.layers:
            layer.register_forward_pre_hook(lambda *_: inside.append(_generator()))
    at_loss: list[str] = []

    def loss(*arguments: Any) -> Any:
        at_loss.append(_generator())
        return compute(objective, *arguments)

    objective.loss = loss
    _step(strategy, 0)
    return {"inside": inside, "before": before, "at_loss": at_loss}


def _generator() -> str:
    return hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()


def _step(strategy: Any, number: int, limit: float = math.inf, rate: float = RATE) -> Any:
    objective = NextTokenObjective()
    examples = (_examples(number) + _examples(number + 100))[
        strategy.data_rank :: strategy.data_size
    ]
    batches = [objective.collate(examples[i : i + 2]) for i in range(0, len(examples), 2)]
    count = float(sum(batch.counts["loss"] for batch in batches))
    counts = strategy.all_sum({"loss": count})
    sums = strategy.forward_backward(batches, counts)
    asked = float(strategy.gradient_norm())
    step = strategy.step(rate, 1.0, limit)
    assert asked == float(step.grad_norm) or math.isnan(asked)
    loss = strategy.all_sum({"loss": float(sums["loss"])})["loss"]
    return loss / counts["loss"], float(step.grad_norm), bool(step.skipped)


def _poisoned(strategy: Any) -> list[bool]:
    """Whether a 100× spike, Inf and NaN on one data rank are skipped, and leave no trace."""
    before = [t.clone() for t in _weights(strategy)]
    objective = strategy._model._setup.objective
    skipped = []
    for factor in (100.0, math.inf, math.nan):
        objective.factor = factor if strategy.data_rank == 0 else 1.0
        skipped.append(_step(strategy, 7, limit=5.0)[2])
    objective.factor = 1.0
    same = all(map(torch.equal, before, _weights(strategy)))
    return [*skipped, same]


def _weights(strategy: Any) -> list[torch.Tensor]:
    """And all that is kept of them; the scale of the loss falls, as it should."""
    return _tensors({name: part for name, part in strategy.state().items() if name != "scale"})


def _resumes(strategy: Any, other: Any, step: int) -> bool:
    """Whether one more step from the saved state is the same to the bit."""
    state = other.state()
    for target, kept in zip(_tensors(state), _tensors(strategy.state()), strict=True):
        target.copy_(kept)
    other.load(state)
    _step(strategy, step)
    _step(other, step)
    return all(map(torch.equal, _tensors(strategy.state()), _tensors(other.state())))


def _held(strategy: Any) -> dict[str, Any]:
    state = strategy.state()
    weights, optimizer = (list(_tensors(state[kind])) for kind in ("model", "optimizer"))
    return {
        "bytes": sum(t.nbytes for t in weights),
        "optimizer_bytes": sum(t.nbytes for t in optimizer),
        "tensors": len(weights),
        "runs": [
            [n for n, layer in enumerate(layers(run.body)) if layer in run.layers]
            for run in _decoders(strategy)
        ],
        "experts": next((e.num_experts for e in _experts(strategy)), 0),
    }


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return [t for part in value.values() for t in _tensors(part)]
    return [value.to_local() if hasattr(value, "to_local") else value]


def _lengths_in_layers(strategy: Any) -> list[int]:
    """Positions that this rank's layers see, filled as training goes on."""
    lengths: list[int] = []
    for _, module in strategy._model.runs:
        for layer in layers(module):
            layer.register_forward_pre_hook(
                lambda layer, args: lengths.append(args[0].shape[1] if args else 0)
            )
    return lengths


def _decoders(strategy: Any) -> list[Any]:
    return [run for _, run in strategy._model.runs if hasattr(run, "body")]


def _experts(strategy: Any) -> list[Any]:
    modules = (m for _, run in strategy._model.runs for m in run.modules())
    return [m for m in modules if type(m).__name__.endswith("MixtralExperts")]


def _kind(tensor: torch.Tensor) -> Any:
    return tensor.shape, tensor.dtype


def _model(name: str) -> Any:
    torch.manual_seed(0)
    own = MODELS[name] if name in MODELS else tiny_config(name)
    fields = {**SIZES, "model_type": name, **own}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    examine(model, learns=True)
    attention.use_in_training(model)
    return model.train()


def _optimizer(parameters: Any) -> Any:
    # Adam's usual epsilon of 1e-8 lets one element whose gradient is 1e-9, mere rounding, move as
    # far as any other; two right orders of summation then choose other experts two steps later.
    return torch.optim.AdamW([p for _, p in parameters], fused=True, eps=1e-4)


def _examples(seed: int) -> list[Example]:
    """Four of unequal length; the longest is a row of two documents."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for length in (5, 17, 9, 30):
        tokens = torch.randint(0, 64, (length + 1,), generator=generator).numpy()
        places = torch.arange(length).numpy()
        places[13:] -= 13
        fields = {"input_ids": tokens[:-1], "labels": tokens[1:], "position_ids": abs(places)}
        examples.append(Example(length, fields))
    return examples


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
