"""A step's utilisation: the model's FLOPs per second over the peak of all ranks' devices."""

from __future__ import annotations

import pytest
import torch

from engine.hardware import find_accelerator, product_speed, threads
from engine.hardware.products import peak_speed
from engine.processes.process import Process
from engine.training.utilisation import peak_tokens


@pytest.fixture(autouse=True)
def _own_speeds(tmp_path, monkeypatch):
    """Speeds of products, measured on the first use and kept for one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_each_step_tells_its_utilisation(tiny_spec, run_here):
    """From the counted FLOPs, of which frozen weights take two thirds, and the speed of products."""
    tiny_spec["stages"]["base"]["train"]["freeze"] = ["*.layers.*"]
    run = run_here(tiny_spec)
    (told,) = run.events("training")
    each, peak = told["flops"] / run.steps("tokens")[-1], product_speed("fp32")
    expected = [pytest.approx(n * each / peak, rel=2e-3) for n in run.steps("tokens_per_second")]
    assert run.steps("utilisation") == expected


def test_the_peak_is_that_of_all_ranks(monkeypatch):
    """Which share the cores of a CPU, and are as many devices otherwise."""
    monkeypatch.setattr("os.cpu_count", lambda: 2 * threads())
    one, two, four = (peak_speed("fp32", "cpu", processes) for processes in (1, 2, 4))
    assert one == two == product_speed("fp32") == 2 * four
    monkeypatch.setattr(Process, "first_alone", lambda self, work: work())
    alone, several = (peak_tokens(Process(0, n), "fp32", 10e6) for n in (1, 3))
    assert alone == pytest.approx(one / 10e6)
    assert several == pytest.approx(3 * alone)


def test_a_known_accelerator_has_its_data_sheet_s_peak(monkeypatch):
    """Another one has none, and so no utilisation is told."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    assert peak_speed("bf16", "cuda:1", 8) == find_accelerator("L4").bf16
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4 MIG 1g.6gb")
    assert peak_speed("bf16", "cuda:1", 8) is None


def test_nothing_is_told_where_flops_are_not_counted():
    """Rather than a share of 0."""
    assert peak_tokens(Process(), "fp32", 0.0) is None
