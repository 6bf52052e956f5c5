"""Takes two steps of `ddp` and prints what each rank saw; started by torchrun.

torchrun --nproc-per-node 2 two_ranks.py BUCKET_MB
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import torch
import torch.distributed as dist
from engine_lm.next_token import NextTokenObjective
from engine_parallel.config import DDP
from engine_parallel.replicated import build_ddp
from transformers import LlamaConfig, LlamaForCausalLM

from engine import Example, Setup


def main(bucket_mb: float) -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    context = SimpleNamespace(rank=rank, world_size=size, device=torch.device("cpu"))
    strategy = build_ddp(DDP(bucket_mb=bucket_mb), context)
    objective = NextTokenObjective()
    strategy.prepare(Setup(model=_model(), optimizer=_optimizer, objective=objective))
    reductions = 0
    reduce = dist.all_reduce

    def counted(*arguments, **options):
        nonlocal reductions
        reductions += 1
        return reduce(*arguments, **options)

    dist.all_reduce = counted
    norms = []
    for number in range(2):
        batch = objective.collate(_examples(number)[rank::size])
        counts = strategy.all_sum({"loss": float(batch.counts["loss"])})
        strategy.forward_backward([batch], counts)
        step = strategy.step(1e-2, 1.0, float("inf"))
        norms.append(float(step.grad_norm))
    checksum = sum(float(t.double().abs().sum()) for _, t in strategy.export())
    found = {"rank": rank, "reductions": reductions, "norms": norms, "checksum": checksum}
    gathered = [None] * size
    dist.all_gather_object(gathered, found)
    if rank == 0:
        print(json.dumps(gathered))
    dist.destroy_process_group()


def _model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=32,
        )
    )


def _optimizer(parameters):
    return torch.optim.AdamW([p for _, p in parameters], fused=True)


def _examples(seed: int) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for length in (5, 17, 9, 30):
        tokens = torch.randint(0, 64, (length + 1,), generator=generator).numpy()
        places = torch.arange(length).numpy()
        fields = {"input_ids": tokens[:-1], "labels": tokens[1:], "position_ids": places}
        examples.append(Example(length, fields))
    return examples


if __name__ == "__main__":
    main(float(sys.argv[1]))
