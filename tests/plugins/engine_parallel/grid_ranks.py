"""Trains tiny models on grids of processes and on one, and prints what each rank saw.

    torchrun --nproc-per-node N grid_ranks.py '[{"shard": 2}, …]' STEPS PRECISION RATE

A JSON list: for each grid, one entry per rank. Started by test_mesh.py.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from engine_lm import attention
from engine_lm.next_token import NextTokenObjective
from engine_parallel import mesh
from engine_parallel.config import Mesh, Single
from engine_parallel.replicated import build_single
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from engine import Example, Setup, layers

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}


class Poisonable(NextTokenObjective):
    """Multiplies the loss, and so its gradient, on this rank."""

    factor = 1.0

    def loss(self, *arguments: Any) -> dict[str, torch.Tensor]:
        return {name: value * self.factor for name, value in super().loss(*arguments).items()}


def main(grids: list[dict[str, Any]], steps: int, precision: str, rate: float) -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    alone = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"))
    told = []
    for grid in grids:
        model = {"expert": grid.get("expert", 1) > 1, "tied": grid.pop("tied", True)}
        context = SimpleNamespace(rank=rank, world_size=size, device=torch.device("cpu"))
        found = _train(mesh.build(Mesh(**grid), context), model, steps, precision, rate)
        expected = _train(build_single(Single(), alone), model, steps, precision, rate)
        weights, reference = found.pop("weights"), expected.pop("weights")
        found["losses_alone"], found["norms_alone"] = expected["losses"], expected["norms"]
        found["names"] = list(weights) == list(reference)
        found["types"] = all(_kind(weights[n]) == _kind(reference[n]) for n in reference)
        found["apart"] = max(float((weights[n] - reference[n]).abs().max()) for n in reference)
        logits = found.pop("logits") - expected.pop("logits")
        found["logits_apart"] = float(logits.abs().max())
        gathered: list[Any] = [None] * size
        dist.all_gather_object(gathered, found)
        told.append(gathered)
    if rank == 0:
        print(json.dumps(told))
    dist.destroy_process_group()


def _train(
    strategy: Any, model: dict[str, bool], steps: int, precision: str, rate: float
) -> dict[str, Any]:
    def prepared(strategy: Any) -> Any:
        setup = Setup(lambda: _model(**model), _optimizer, Poisonable(), ema=0.9)
        strategy.prepare(replace(setup, precision=precision))
        return strategy

    prepared(strategy)
    lengths = _lengths_in_layers(strategy)
    found: dict[str, Any] = {"losses": [], "norms": []}
    for number in range(steps):
        loss, norm, _ = _step(strategy, number, rate=rate)
        found["losses"].append(loss)
        found["norms"].append(norm)
    held = _held(strategy)
    found |= {
        "lengths": sorted(set(lengths)),
        "data_size": strategy.data_size,
        "bytes": sum(t.nbytes for t in held["model"]),
        "optimizer_bytes": sum(t.nbytes for t in held["optimizer"]),
        "tensors": len(held["model"]),
        "runs": [
            [n for n, layer in enumerate(run.body.layers) if any(True for _ in layer.parameters())]
            for run in _decoders(strategy)
        ],
        "experts": next((e.num_experts for e in _experts(strategy)), 0),
        "poisoned": _poisoned(strategy),
        "resumes": _resumes(strategy, prepared(_another(strategy)), steps),
        "weights": {n: t.clone() for n, t in strategy.export()},
    }
    with strategy.inference() as whole, torch.no_grad():
        found["logits"] = whole(input_ids=torch.arange(8)[None]).logits.float()
    return found


def _another(strategy: Any) -> Any:
    """One like it, as a restarted process makes it."""
    if isinstance(strategy, mesh.Mesh):
        context = SimpleNamespace(
            rank=dist.get_rank(), world_size=dist.get_world_size(), device=torch.device("cpu")
        )
        return mesh.build(strategy._config, context)
    return build_single(Single(), SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu")))


def _step(strategy: Any, number: int, limit: float = math.inf, rate: float = 1e-2) -> Any:
    objective = NextTokenObjective()
    examples = (_examples(number) + _examples(number + 100))[
        strategy.data_rank :: strategy.data_size
    ]
    batches = [objective.collate(examples[i : i + 2]) for i in range(0, len(examples), 2)]
    count = float(sum(batch.counts["loss"] for batch in batches))
    counts = strategy.all_sum({"loss": count})
    sums = strategy.forward_backward(batches, counts)
    step = strategy.step(rate, 1.0, limit)
    loss = strategy.all_sum({"loss": float(sums["loss"])})["loss"]
    return loss / counts["loss"], float(step.grad_norm), bool(step.skipped)


def _poisoned(strategy: Any) -> list[bool]:
    """Whether a 100× spike, Inf and NaN on one data rank are skipped, and leave no trace."""
    before = [t.clone() for t in _weights(strategy)]
    objective = strategy._setup.objective
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


def _held(strategy: Any) -> dict[str, list[torch.Tensor]]:
    state = strategy.state()
    return {kind: list(_tensors(state[kind])) for kind in ("model", "optimizer")}


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return [t for part in value.values() for t in _tensors(part)]
    return [value.to_local() if hasattr(value, "to_local") else value]


def _lengths_in_layers(strategy: Any) -> list[int]:
    """Positions that this rank's layers see, filled as training goes on."""
    lengths: list[int] = []
    for _, module in getattr(strategy, "_runs", ()):
        for layer in layers(module):
            layer.register_forward_pre_hook(
                lambda layer, args: lengths.append(args[0].shape[1] if args else 0)
            )
    return lengths


def _decoders(strategy: Any) -> list[Any]:
    return [run for _, run in getattr(strategy, "_runs", ()) if hasattr(run, "body")]


def _experts(strategy: Any) -> list[Any]:
    modules = (m for run in _decoders(strategy) for m in run.modules())
    return [m for m in modules if type(m).__name__.endswith("MixtralExperts")]


def _kind(tensor: torch.Tensor) -> Any:
    return tensor.shape, tensor.dtype


def _model(expert: bool, tied: bool) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {**SIZES, "tie_word_embeddings": tied}
    if expert:
        return MixtralForCausalLM(
            MixtralConfig(**sizes, num_local_experts=4, num_experts_per_tok=2)
        ).train()
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    attention.use_in_training(model)
    return model.train()


def _optimizer(parameters: Any) -> Any:
    return torch.optim.AdamW([p for _, p in parameters], fused=True)


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
    main(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
