"""Training steps of a model of some size, on random documents, as a run's strategy makes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from engine_lm import attention
from engine_parallel.config import Single
from engine_parallel.replicated import build_single

from engine import Batch, ModelShape, Setup
from engine.hardware.devices import forget_peak, peak_memory
from engine.modeling import read_scalars
from engine.testing import StandAloneContext
from engine.training.flops import token_flops

_DOCUMENT = 0.3
"""Of a row, on average."""


@dataclass(frozen=True, slots=True)
class Size:
    """A llama of these widths, and a micro-batch of ``rows`` of ``context`` tokens."""

    name: str
    hidden: int
    layers: int
    heads: int
    vocabulary: int
    context: int
    rows: int
    inside: int = 0

    @property
    def shape(self) -> ModelShape:
        """As the plan takes it."""
        return ModelShape(
            layers=self.layers,
            hidden_size=self.hidden,
            heads=self.heads,
            kv_heads=self.heads,
            intermediate_size=self.inside or -(-self.hidden * 8 // 3 // 64) * 64,
            vocabulary=self.vocabulary,
            context=self.context,
            tied=True,
        )

    @property
    def flops(self) -> float:
        """Of a micro-batch, as if each row were one document, as is usual."""
        return token_flops(self.shape, self.context).total * self.rows * self.context


def model(size: Size, device: str = "cpu") -> Any:
    """With random weights, made where they are to be."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = size.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tied,
    )
    with torch.device(device):
        return LlamaForCausalLM(config).train()


def narrowed(module: Any, device: str, dtype: torch.dtype) -> Any:
    """The module there, in this type but for buffers, as strategies have it: rotary frequencies would
    be far off."""
    module.to(device)
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    return module


def batch(size: Size, *, packed: bool = True) -> Batch:
    """Random tokens; packed, in documents of random lengths."""
    chance = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, size.vocabulary, (size.rows, size.context + 1), generator=chance)
    places = torch.arange(size.context).repeat(size.rows, 1)
    if packed:
        starts = torch.rand(places.shape, generator=chance) < 1 / (_DOCUMENT * size.context)
        origins = torch.where(starts, places, 0).cummax(1).values
        places = places - origins
    labels = tokens[:, 1:].contiguous()
    inputs = {"input_ids": tokens[:, :-1].contiguous(), "position_ids": places}
    return Batch(inputs, {"labels": labels}, {"loss": labels.numel()}, labels.numel())


class Steps:
    """The strategy ``single`` on one device, which takes the same micro-batch again and again."""

    def __init__(
        self, size: Size, device: str, precision: str, *, compiled: bool = False, **setup: Any
    ) -> None:
        kit = StandAloneContext()
        context: Any = SimpleNamespace(
            rank=0, world_size=1, device=torch.device(device), precision=precision, seed=0
        )
        self._device, self._batch = context.device, batch(size)
        self.strategy = build_single(Single(), context)
        own = model(size, device)
        attention.use_in_training(own)
        self.strategy.prepare(
            Setup(
                model=own,
                optimizer=kit.build("optimizer", {"type": "adamw", "lr": 3e-4}),
                objective=kit.build("objective", {"type": "next-token"}),
                precision=precision,
                compile=compiled,
                **setup,
            )
        )

    def step(self) -> float:
        """One; its loss, as the loop reads it."""
        counts = {name: float(count) for name, count in self._batch.counts.items()}
        sums = self.strategy.forward_backward([self._batch], counts)
        done = self.strategy.step(3e-4, 1.0, float("inf"))
        (found, _) = read_scalars(sums, {"grad_norm": done.grad_norm, "skipped": done.skipped})
        return found["loss"] / counts["loss"]

    def peak(self, steps: int = 2) -> int:
        """Bytes at most in the last of some steps."""
        for _ in range(steps):
            forget_peak(self._device)
            self.step()
        return peak_memory(self._device)


def seconds(step: Callable[[], object], device: str, before: int, steps: int) -> float:
    """Of a step, the median, after some that are not counted."""
    taken = []
    for number in range(before + steps):
        started = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        if number >= before:
            taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2]
