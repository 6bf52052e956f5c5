"""AdamW with moments of a byte, beside AdamW in float64."""

from __future__ import annotations

import pytest
import torch
from engine_lm.eight_bit import build
from engine_lm.training_config import AdamW8Bit
from safetensors.torch import load_file

from engine import Config
from engine.testing import check_component

SCHEDULE = Config()  # the loop reads it, optimizers do not


def test_it_keeps_an_optimizer_s_contract():
    """Exact resume, skipped steps and the size of its state among it."""
    check_component("optimizer", {"type": "adamw-8bit"})


def _moved(config, steps=5):
    """Where a matrix goes, and where float64 would have taken it."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(64, 128, generator=generator)
    weight = torch.nn.Parameter(start.clone())
    optimizer = build(config, None)([("layers.0.weight", weight)])
    for group in optimizer.param_groups:
        group["lr"] = config.lr * group["lr_scale"]
    exact, m, v = start.double(), 0.0, 0.0
    for t in range(1, steps + 1):
        weight.grad = torch.randn(start.shape, generator=generator)
        g = weight.grad.double()
        optimizer.step()
        m = config.betas[0] * m + (1 - config.betas[0]) * g
        v = config.betas[1] * v + (1 - config.betas[1]) * g**2
        direction = m / (1 - config.betas[0] ** t)
        direction /= (v / (1 - config.betas[1] ** t)).sqrt() + config.eps
        group = config.groups[0] if config.groups else None
        rate = config.lr * (group.lr_scale if group else 1)
        exact = exact * (1 - rate * config.weight_decay) - rate * direction
    return weight.detach().double() - start, exact - start


@pytest.mark.covers(
    *(f"optimizer/adamw-8bit.{f}" for f in ("lr", "betas", "eps", "weight_decay", "groups"))
)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lr": 0.05},
        {"betas": (0.5, 0.7)},
        {"eps": 1.0},
        {"weight_decay": 20.0},
        {"groups": [{"match": "layers.*", "lr_scale": 3.0}]},
    ],
)
def test_it_goes_where_adamw_goes(changes):
    """To a twentieth of the way: seven bits of each moment are kept between steps."""
    ours, exact = _moved(AdamW8Bit(schedule=SCHEDULE, **changes))
    assert (ours - exact).norm() < 0.05 * exact.norm()


@pytest.mark.covers("optimizer/adamw-8bit.schedule")
def test_a_run_goes_on_to_the_same_bits(tiny_spec, run_here):
    """The checkpoint holds the bytes, their scales and the count of steps."""
    train = tiny_spec["stages"]["base"]["train"]
    train["model"]["hidden_size"] = 64  # so that matrices are large enough for bytes
    schedule = {"type": "constant", "warmup": "4 steps"}
    train["optimizer"] = {"type": "adamw-8bit", "lr": 0.1, "schedule": schedule}
    train["budget"] = "6 steps"
    whole = run_here(tiny_spec)
    assert whole.steps("lr") == pytest.approx([0.0001, 0.025, 0.05, 0.075, 0.1, 0.1])
    train["budget"] = "3 steps"
    run_here(tiny_spec, runs="parted")
    train["budget"] = "6 steps"
    parted = run_here(tiny_spec, runs="parted")
    assert len(parted.events("resumed")) == 1
    files = [run.folder / "base" / "final" / "model.safetensors" for run in (whole, parted)]
    ours, theirs = map(load_file, files)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
