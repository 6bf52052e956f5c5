"""AdamW and Muon against their papers, written out in float64."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from engine_lm.muon import orthogonalised
from engine_lm.optimizers import build_adamw, build_muon
from engine_lm.training_config import AdamW, Muon
from torch import Tensor, nn

from engine import Config

SCHEDULE = Config()  # the loop reads it, optimizers do not

CONTEXT = SimpleNamespace(precision="bf16")
"""As the authors' own code, in which matrices are orthogonalised in bfloat16."""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_muon_computes_in_the_stage_s_precision(precision, monkeypatch):
    """bfloat16 products are a tenth as fast as float32's on some processors."""
    seen = set()
    product = torch.baddbmm

    def baddbmm(*tensors: Tensor, **factors: float) -> Tensor:
        seen.update(t.dtype for t in tensors)
        return product(*tensors, **factors)

    monkeypatch.setattr(torch, "baddbmm", baddbmm)
    config = Muon(schedule=SCHEDULE)
    weight = nn.Parameter(torch.randn(8, 24))
    optimizer = build_muon(config, SimpleNamespace(precision=precision))([("wide.weight", weight)])
    weight.grad = torch.randn(8, 24)
    before = weight.detach().clone()
    optimizer.step()
    assert seen == {
        {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    }
    assert weight.isfinite().all()
    assert not torch.equal(weight, before)


def _model() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "embed_tokens": nn.Embedding(12, 8),
            "wide": nn.Linear(8, 24, bias=False),
            "tall": nn.Linear(24, 8),
            "norm": nn.LayerNorm(8),
            "lm_head": nn.Linear(8, 12, bias=False),
            "conv": nn.Conv1d(8, 8, 4, groups=8, bias=False),
            "experts": nn.ParameterDict(
                {"down": torch.randn(3, 24, 8), "down_bias": torch.randn(3, 8)}
            ),
        }
    )


def _step(build, config, times: int = 3, **told: Tensor) -> tuple[nn.ModuleDict, list[dict]]:
    """The model after some steps, and the gradients of each by name."""
    model = _model()
    optimizer = build(config, CONTEXT)(list(model.named_parameters()))
    for group in optimizer.param_groups:
        group["lr"] = config.lr * group["lr_scale"]  # as strategies do at every step
    for name, value in told.items():
        setattr(optimizer, name, value)
    generator = torch.Generator().manual_seed(1)
    gradients = []
    for _ in range(times):
        gradients.append({})
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            gradients[-1][name] = parameter.grad.clone()
        optimizer.step()
    return model, gradients


def _adamw(start: Tensor, gradients: list[Tensor], *, lr, betas, eps, decay) -> Tensor:
    """Loshchilov & Hutter 2019, algorithm 2, in float64."""
    weight, m, v = start.double(), 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):
        g = gradient.double()
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        unbiased = (m / (1 - betas[0] ** t), v / (1 - betas[1] ** t))
        weight = weight * (1 - lr * decay) - lr * unbiased[0] / (unbiased[1].sqrt() + eps)
    return weight


def _assert_adamw(model, gradients, names, config, scale: float = 1.0) -> None:
    start = dict(_model().named_parameters())
    for name in names:
        expected = _adamw(
            start[name].detach(),
            [g[name] for g in gradients],
            lr=config.lr * scale,
            betas=config.betas,
            eps=config.eps,
            decay=config.weight_decay if start[name].ndim > 1 and "bias" not in name else 0,
        )
        found = model.get_parameter(name).double()
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)  # float32's rounding


@pytest.mark.covers(
    "optimizer/adamw.lr",
    "optimizer/adamw.betas",
    "optimizer/adamw.eps",
    "optimizer/adamw.weight_decay",
)
@pytest.mark.parametrize(
    "changes",
    [{}, {"lr": 0.02}, {"betas": (0.5, 0.7)}, {"eps": 0.1}, {"weight_decay": 0.7}],
)
def test_adamw_is_the_papers(changes):
    """Matrices decay, vectors do not."""
    config = AdamW(schedule=SCHEDULE, **changes)
    model, gradients = _step(build_adamw, config)
    _assert_adamw(model, gradients, dict(model.named_parameters()), config)


def _muon(start: Tensor, gradients: list[Tensor], *, lr, momentum, decay) -> tuple[Tensor, Tensor]:
    """Where the weights go by exact U·Vᵀ in float64, and how far the updates moved them."""
    weight, buffer = start.double(), torch.zeros(start.shape).double()
    moved = 0.0
    for gradient in gradients:
        g = gradient.double()
        buffer = momentum * buffer + (1 - momentum) * g
        nesterov = momentum * buffer + (1 - momentum) * g
        u, _, vt = torch.linalg.svd(nesterov, full_matrices=False)
        update = lr * 0.2 * max(start.shape[-2:]) ** 0.5 * (u @ vt)
        weight = weight * (1 - lr * decay) - update
        moved += update.norm()
    return weight, moved


@pytest.mark.covers("optimizer/muon.lr", "optimizer/muon.momentum", "optimizer/muon.weight_decay")
@pytest.mark.parametrize("changes", [{}, {"lr": 0.05}, {"momentum": 0.5}, {"weight_decay": 5.0}])
def test_muon_is_its_authors(changes):
    """Newton–Schulz leaves singular values of 0.7 to 1.2: a third of each update, at most.

    Stacked experts are as many matrices by themselves.
    """
    config = Muon(schedule=SCHEDULE, **changes)
    model, gradients = _step(build_muon, config)
    start = dict(_model().named_parameters())
    for name in ("wide.weight", "tall.weight", "experts.down"):
        expected, moved = _muon(
            start[name].detach(),
            [g[name] for g in gradients],
            lr=config.lr,
            momentum=config.momentum,
            decay=config.weight_decay,
        )
        off = (model.get_parameter(name).double() - expected).norm()
        assert off < 0.35 * moved
        decayed = start[name].double() * (1 - (1 - config.lr * config.weight_decay) ** 3)
        if config.weight_decay > 1:  # else too little decays to tell
            assert decayed.norm() > 3 * off


@pytest.mark.covers("optimizer/muon.betas", "optimizer/muon.eps", "optimizer/muon.adamw_lr_scale")
@pytest.mark.parametrize(
    "changes", [{}, {"betas": (0.5, 0.7)}, {"eps": 0.1}, {"adamw_lr_scale": 0.25}]
)
def test_what_is_no_hidden_matrix_is_adamws(changes):
    """Embedding, head, norms and biases, stacked ones too, and a convolution of single channels."""
    config = Muon(schedule=SCHEDULE, **changes)
    model, gradients = _step(build_muon, config)
    names = ["embed_tokens.weight", "lm_head.weight", "norm.weight", "norm.bias", "tall.bias"]
    names += ["conv.weight", "experts.down_bias"]
    _assert_adamw(model, gradients, names, config, scale=config.adamw_lr_scale)


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 8, 40), (1, 40, 8), (3, 16, 8)])
def test_newton_schulz_makes_singular_values_one_or_so(shape):
    """The same directions, all of about the same length, whatever the matrix's scale."""
    torch.manual_seed(2)
    matrix = torch.randn(shape)
    for scaled in (matrix, 1e4 * matrix, 1e-4 * matrix):
        u, _, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        found = u.mT @ orthogonalised(scaled).double() @ vt.mT
        values = found.diagonal(dim1=-2, dim2=-1)
        assert values.min() > 0.3  # the smallest of a square matrix are slow to grow
        assert values.max() < 1.3
        assert (found - torch.diag_embed(values)).abs().max() < 0.05  # bfloat16


@pytest.mark.parametrize(("build", "make"), [(build_adamw, AdamW), (build_muon, Muon)])
def test_gradients_are_unscaled_and_bad_steps_skipped_on_the_device(build, make):
    """As torch's fused optimizers do for its GradScaler: no number ever comes to the host."""
    config = make(schedule=SCHEDULE)
    plain, _ = _step(build, config)
    scale, good, bad = torch.tensor(0.5), torch.tensor(0.0), torch.tensor(1.0)
    model = _model()
    optimizer = build(config, CONTEXT)(list(model.named_parameters()))
    for group in optimizer.param_groups:
        group["lr"] = config.lr * group["lr_scale"]
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, torch.nan)
        before, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
        optimizer.grad_scale, optimizer.found_inf = scale, bad
        optimizer.step()
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, before[name])
        for number, kept in state["state"].items():
            for key, value in kept.items():
                assert torch.equal(optimizer.state_dict()["state"][number][key], value)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
        optimizer.found_inf = good
        optimizer.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, plain.get_parameter(name), atol=1e-6, rtol=1e-5)


GROUPS = ("match", "lr_scale", "weight_decay")


@pytest.mark.covers(
    "optimizer/adamw.groups", "optimizer/muon.groups", *(f"ParameterGroup.{g}" for g in GROUPS)
)
@pytest.mark.parametrize(("build", "make"), [(build_adamw, AdamW), (build_muon, Muon)])
def test_groups_have_rates_and_decays_of_their_own(build, make):
    """By name, the first match counting; the others are as they were."""
    plain, _ = _step(build, make(schedule=SCHEDULE, weight_decay=0.0), times=1)
    groups = [
        {"match": "wide.*", "lr_scale": 0.0},
        {"match": "tall.weight", "lr_scale": 0.5},
        {"match": "lm_*", "weight_decay": 0.5},
        {"match": "*", "lr_scale": 1.0},
    ]
    config = make(schedule=SCHEDULE, weight_decay=0.0, groups=groups)
    model, _ = _step(build, config, times=1)
    start = dict(_model().named_parameters())
    change = {n: p - start[n] for n, p in model.named_parameters()}
    usual = {n: p - start[n] for n, p in plain.named_parameters()}
    assert not change["wide.weight"].any()
    torch.testing.assert_close(change["tall.weight"], 0.5 * usual["tall.weight"])
    head = usual["lm_head.weight"] - config.lr * 0.5 * start["lm_head.weight"]
    torch.testing.assert_close(change["lm_head.weight"], head, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(change["norm.weight"], usual["norm.weight"])


@pytest.mark.covers("optimizer/adamw.schedule", "optimizer/muon.schedule")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_rate_follows_the_schedule(tiny_spec, run_here, optimizer):
    """As the step's event says."""
    train = tiny_spec["stages"]["base"]["train"]
    schedule = {"type": "constant", "warmup": "4 steps"}
    train["optimizer"] = {"type": optimizer, "lr": 0.1, "schedule": schedule}
    rates = run_here(tiny_spec).steps("lr")
    assert rates == pytest.approx([0.0001, 0.025, 0.05, 0.075, 0.1, 0.1])
