"""What is right with a model in training: whole runs of a few steps, as a user would start them."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.modeling import attend
from engine.testing import FinishedRun, run_spec, train_tiny
from engine_lm.architectures import declared
from engine_lm.folders import model_type
from engine_lm.trials.checks import greedy
from engine_lm.trials.fresh import Fresh
from engine_lm.trials.subject import Subject, save

_COMPILED = 1e-4
_LOGITS = 1e-5
_PATIENCE = 120.0
_STEPS = 4
_LEARNING = {"type": "adamw", "lr": 1e-2}
_ADAPTING = {"type": "adamw", "lr": 3e-3}
"""Low enough for a model that has been trained, high enough for a small one to learn in four steps."""


def masters(subject: Subject) -> str:
    """Weights of a bf16 file train as float32 masters, and every one with a gradient moves."""
    with _folder() as folder:
        narrow = folder / "narrow"
        shutil.copytree(subject.folder, narrow)
        model = subject.model().to(torch.bfloat16)
        save(model, narrow)
        before = _weights(narrow)
        run = trained(folder, narrow, precision="bf16", optimizer=_LEARNING)
        after = _weights(run.folder / "base" / "final")
        types = {t.dtype for t in after.values() if t.is_floating_point()}
        assert types == {torch.float32}, f"the masters are {types}"
        learnt = _with_gradient(subject)
        kept = [n for n in learnt if n in before and n in after]  # a tied weight has one name
        still = [n for n in kept if torch.equal(after[n], before[n].float())]
        assert not still, f"{len(still)} weights did not move, such as {still[0]}"
    return f"{len(learnt)} weights move"


def lora(subject: Subject) -> str:
    """A LoRA trains, gives the same logits when merged, and what a stage leaves opens again."""
    adapter: Any = subject.context.build("adapter", {"type": "lora"})
    ids = subject.documents[0][None]
    attached = adapter.attach(subject.model())
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in attached.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=chance), alpha=0.1)
        apart = attached.eval()(input_ids=ids, use_cache=False).logits
        merged = adapter.merge(attached).eval()
        _same(merged(input_ids=ids, use_cache=False).logits, apart, "merged, the logits", 1e-4)
    with _folder() as folder:
        run = trained(folder, subject.folder, adapter={"type": "lora"}, optimizer=_ADAPTING)
        assert run.losses[-1] < run.losses[0], "the loss does not fall"
        _opens(run.folder / "base" / "final", ids)
    return "the loss falls"


def compiled(subject: Subject) -> str:
    """Compiled layers give the losses of eager ones."""
    found = {}
    for way in (False, True):
        with _folder() as folder:
            run = trained(folder, subject.folder, compile=way)
        found[way] = run.losses
    worst = _apart(found[True], found[False])
    assert worst < _COMPILED, f"losses differ by {worst:.1e}: {found[True]} and {found[False]}"
    if not any(event.get("compile") for event in run.events):
        return "not compiled, as rows are of one document"
    return f"within {worst:.0e}"


def resume(subject: Subject) -> str:
    """Killed after its second step and started again, a run leaves the same bits."""
    every = {"checkpoint": {"every": "1 steps", "background": False}}
    with _folder() as folder:
        whole = trained(folder / "whole", subject.folder, **every)
        spec = folder / "whole" / "spec.yaml"
        runs = folder / "torn"
        log, until = runs / "tiny" / "events.jsonl", time.monotonic() + _PATIENCE
        torn = Fresh(run_spec, spec, runs, log=folder / "log", environment={})
        while torn.runs and _steps(log) < 2 and time.monotonic() < until:
            time.sleep(0.005)
        torn.kill()
        assert 2 <= _steps(log) < _STEPS, f"the run was killed after {_steps(log)} steps"
        again = run_spec(spec, runs)
        ours, theirs = (_weights(r.folder / "base" / "final") for r in (again, whole))
        odd = [n for n in theirs if not torch.equal(ours[n], theirs[n])]
        assert not odd, f"{len(odd)} weights differ, such as {odd[0]}"
    return "the same bits"


def export(subject: Subject) -> str:
    """What a stage leaves opens in transformers, with equal logits and its own ``generate``."""
    with _folder() as folder:
        run = trained(folder, subject.folder)
        _opens(run.folder / "base" / "final", subject.documents[0][None])
    return "opens"


def _opens(final: Path, ids: Tensor) -> None:
    from transformers import AutoModelForCausalLM

    from engine_lm.opening import open_model

    theirs: Any = AutoModelForCausalLM.from_pretrained(final).eval()
    ours = open_model(str(final), None).eval()
    attend(theirs, "eager")
    attend(ours, "eager")
    with torch.no_grad():
        _same(
            ours(input_ids=ids, use_cache=False).logits,
            theirs(input_ids=ids, use_cache=False).logits,
            "the logits of what a stage leaves",
            _LOGITS,
        )
        greedy(theirs, [int(i) for i in ids[0]], 4)


def trained(
    folder: Path, model: Path, *, adapter: dict[str, Any] | None = None, **train: Any
) -> FinishedRun:
    """A run in ``folder`` that trains the model of another one on small texts."""
    given: dict[str, Any] = {"type": "pretrained", "path": str(model)}
    if adapter:
        given["adapter"] = adapter
    its = {"tokenizer": {"type": "pretrained", "path": str(model)}}
    own = declared(model_type(model) or "")
    plugins = [own[0]] if own else []
    settings = {"budget": f"{_STEPS} steps", **train}
    return train_tiny(folder, plugins=plugins, prepare=its, model=given, **settings)


def _with_gradient(subject: Subject) -> list[str]:
    model = subject.model()
    subject.loss(model, subject.packed()).backward()
    named = model.named_parameters()
    return [n for n, p in named if p.grad is not None and bool(p.grad.abs().max() > 1e-6)]


def _weights(folder: Path) -> dict[str, Tensor]:
    return {
        name: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def _steps(log: Path) -> int:
    if not log.exists():
        return 0
    lines = log.read_text(encoding="utf-8").splitlines()
    return sum(1 for line in lines if line.endswith("}") and json.loads(line)["event"] == "step")


def _apart(found: list[float], expected: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def _same(found: Tensor, expected: Tensor, what: str, tolerance: float) -> None:
    apart = float((found.float() - expected.float()).norm() / expected.float().norm())
    assert apart < tolerance, f"{what} differ by {apart:.1e}"


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
