"""Tokens a second and share of the peak, beside transformers' Trainer and a bare compiled loop."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from rows import Row, Rows
from steps import Size, Steps, batch, model, seconds
from torch.nn import functional as F

from engine.hardware import accelerators
from engine.modeling import compile_layers

_SMALL = Size("small", 64, 1, 2, 512, 128, 2)
_SIZES = {
    "cuda": (
        Size("1.3B", 2048, 24, 16, 50304, 4096, 4),
        Size("125M", 768, 12, 12, 50304, 4096, 8),
    ),
    "cpu": (_SMALL,),
}
_LAYERS = {
    "cuda": Size("2 layers of 7B", 4096, 2, 32, 4096, 4096, 4, 11008),
    "cpu": replace(_SMALL, name="a layer"),
}
"""Without a vocabulary worth speaking of."""
_STEPS = {"cuda": (3, 5), "cpu": (1, 1)}
"""That are not counted, and that are."""
_AIM = 0.5
"""Of the peak in bf16 at 1.3B, where one H100 or H200 trains."""
_ON = ("H100", "H200")


def rows(device: str) -> Rows:
    """By size; then a 7B model's layers alone."""
    for size in _SIZES[device]:
        ours = _engine(size, device)
        yield _row(size, "engine", ours, device)
        for name, peer in (("a bare compiled loop", _bare), ("Trainer", _trainer)):
            theirs = _freed(peer, size, device)
            yield _row(size, name, theirs, device)
            yield Row(f"{size.name}: engine beside {name}", f"{theirs / ours:.2f} times")
    size = _LAYERS[device]
    yield _row(size, "engine", _freed(_engine, size, device), device)


def _freed(measure: Callable[[Size, str], float], size: Size, device: str) -> float:
    """Seconds of a step, with all memory for it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return measure(size, device)


def _row(size: Size, who: str, taken: float, device: str) -> Row:
    tokens = size.rows * size.context / taken
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    known = accelerators().get(name)
    if known is None:
        return Row(f"{size.name}: {who}, tokens a second", f"{tokens:,.0f}")
    share = size.flops / taken / known.peak("bf16")
    aimed = who == "engine" and size.name == "1.3B" and any(one in name for one in _ON)
    return Row(
        f"{size.name}: {who}, tokens a second",
        f"{tokens:,.0f}, {share:.0%}",
        f"≥ {_AIM:.0%}" if aimed else "",
        share >= _AIM if aimed else None,
    )


def _engine(size: Size, device: str) -> float:
    """The engine's strategy, with packed documents and compiled layers."""
    ours = Steps(size, device, "bf16", compiled=device == "cuda")
    return seconds(ours.step, device, *_STEPS[device])


def _compiled(own: Any, device: str) -> Any:
    """Layer by layer; on a CPU, where nothing is compared, that would take more time than all else."""
    if device == "cuda":
        compile_layers(own)
    return own


def _bare(size: Size, device: str) -> float:
    """torch alone: float32 weights, autocast, compiled layers, fused AdamW."""
    own = _compiled(model(size, device), device)
    parameters = list(own.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=3e-4, fused=True)
    given = batch(size, packed=False)
    ids, labels = given.inputs["input_ids"].to(device), given.targets["labels"].to(device)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            logits = own(input_ids=ids, use_cache=False).logits
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item()

    return seconds(step, device, *_STEPS[device])


def _trainer(size: Size, device: str) -> float:
    """transformers' own loop, with its settings for speed; its `torch_compile` would take a minute for
    what compiled layers do in seconds."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    before, steps = _STEPS[device]
    ended = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            ended.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            bf16=True,
            use_cpu=device == "cpu",
            optim="adamw_torch_fused",
            per_device_train_batch_size=size.rows,
            max_steps=before + steps + 1,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        ids = batch(size, packed=False).inputs["input_ids"]
        given = [{"input_ids": row, "labels": row} for row in ids] * arguments.max_steps
        own = _compiled(model(size, device), device)
        trainer = Trainer(own, arguments, train_dataset=given, callbacks=[Clock()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    taken = sorted(b - a for a, b in pairwise(ended[before:]))
    return taken[len(taken) // 2]
