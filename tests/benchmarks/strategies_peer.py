"""Our strategy and the bare library beneath it, in turn, in the same processes.

    torchrun --nproc-per-node 2 strategies_peer.py ddp|shard|zero PAIRS STEPS

Prints a JSON object: seconds a step of both in each pair, bytes over the loopback a step, losses.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from engine_lm import attention
from engine_lm.next_token import NextTokenObjective
from transformers import LlamaConfig, LlamaForCausalLM

from engine import Batch, Setup
from engine.modeling import ObjectiveModule
from engine.processes.process import Process

ROWS, LENGTH, VOCABULARY, RATE = 4, 256, 4096, 3e-4


def main(kind: str, pairs: int, steps: int) -> None:
    Process().tune()
    dist.init_process_group("gloo")
    batch = _batch(dist.get_rank())
    both = {"ours": _ours(kind, batch), "theirs": _theirs(kind, batch)}
    for step in both.values():
        for _ in range(3):
            step()
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    sent: dict[str, int] = {}
    losses = {}
    for pair in range(pairs):
        for name in both if pair % 2 else reversed(both):
            dist.barrier()
            before, started = _sent(), time.perf_counter()
            for _ in range(steps):
                losses[name] = both[name]()
            seconds[name].append((time.perf_counter() - started) / steps)
            dist.barrier()
            sent[name] = (_sent() - before) // steps
    parameters = sum(p.numel() for p in _model().parameters())
    told = {"seconds": seconds, "sent": sent, "losses": losses, "parameters": parameters}
    if dist.get_rank() == 0:
        print(json.dumps(told))
    dist.destroy_process_group()


def _ours(kind: str, batch: Batch) -> Callable[[], float]:
    from engine_parallel import mesh, replicated
    from engine_parallel.config import DDP, Mesh

    context = SimpleNamespace(rank=dist.get_rank(), world_size=2, device=torch.device("cpu"))
    context.seed = 0
    if kind == "ddp":
        strategy: Any = replicated.build_ddp(DDP(), context)
    elif kind == "shard":
        strategy = mesh.build(Mesh(shard=2), context)
    else:
        from engine_zero import zero
        from engine_zero.config import Zero

        strategy = zero.build(Zero(stage=2), context)

    def optimizer(named: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for _, p in named], lr=RATE, fused=True)

    strategy.prepare(Setup(_model(), optimizer, NextTokenObjective()))
    counts = strategy.all_sum({"loss": float(batch.counts["loss"])})

    def step() -> float:
        sums = strategy.forward_backward([batch], counts)
        strategy.step(RATE, 1.0, float("inf"))
        return float(sums["loss"]) / batch.counts["loss"]

    return step


def _theirs(kind: str, batch: Batch) -> Callable[[], float]:
    """The library alone, with the model and the loss that the engine gives it."""
    model: Any = _model()
    objective = NextTokenObjective()

    whole: Any = ObjectiveModule(model, objective)
    count = batch.counts["loss"]
    if kind == "ddp":
        whole = torch.nn.parallel.DistributedDataParallel(whole)
    elif kind == "shard":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (2,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(whole, mesh=mesh, reshard_after_forward=False)
    else:
        return _deepspeed(whole, batch)
    parameters = list(whole.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=RATE, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = whole(batch)["loss"] / count
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return float(loss)

    return step


def _deepspeed(whole: Any, batch: Batch) -> Callable[[], float]:
    import deepspeed

    optimizer = torch.optim.AdamW(whole.parameters(), lr=RATE, fused=True)
    config = {
        "train_micro_batch_size_per_gpu": ROWS,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(model=whole, optimizer=optimizer, config=config)

    def step() -> float:
        loss = engine(batch)["loss"] / batch.counts["loss"]
        engine.backward(loss)
        engine.step()
        return float(loss)

    return step


def _model() -> Any:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=672,
            num_hidden_layers=6,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=True,
        )
    )
    attention.use_in_training(model)
    return model.train()


def _batch(rank: int) -> Batch:
    generator = torch.Generator().manual_seed(rank)
    tokens = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), generator=generator)
    places = torch.arange(LENGTH).expand(ROWS, LENGTH)
    inputs = {"input_ids": tokens[:, :-1].contiguous(), "position_ids": places.contiguous()}
    labels = tokens[:, 1:].contiguous()
    return Batch(inputs, {"labels": labels}, {"loss": labels.numel()}, labels.numel())


def _sent() -> int:
    return int(Path("/sys/class/net/lo/statistics/tx_bytes").read_text(encoding="ascii"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
