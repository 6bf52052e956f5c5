"""Speeds of torch's products on this machine: measured once, remembered where they hold."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch

from engine.errors import RunError
from engine.hardware import measurements as figures
from engine.hardware.measurements import measured
from engine.hardware.products import product_speed


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A file of its own, and no other work on these cores."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(figures, "_waited", lambda: 0.0)
    return tmp_path / "engine" / "speeds.json"


@pytest.fixture
def tries():
    """What is measured: 1, 2, 3, and so on."""
    number = count(1)
    return lambda: {"speed": float(next(number))}


def test_products_are_measured_once_and_then_known_without_torch():
    """In well under the time of importing torch, and every precision that torch has on a CPU."""
    speeds = {precision: product_speed(precision) for precision in ("fp32", "bf16", "fp16")}
    assert min(speeds.values()) > 1e7
    assert {precision: product_speed(precision) for precision in speeds} == speeds
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from engine.hardware.products import product_speed as speed;"
            "print(speed('fp32'), speed('bf16'), 'torch' in sys.modules)",
        ],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert told == [str(speeds["fp32"]), str(speeds["bf16"]), "False"]


def test_figures_hold_only_for_what_they_were_measured_with(tries, monkeypatch):
    """Another number of threads or a limit of instructions is measured for itself."""

    def speed():
        return measured(["speed"], "cpu", tries)["speed"]

    assert (speed(), speed()) == (1, 1)
    figures._measured_here.cache_clear()  # as in another process
    assert speed() == 1
    threads = torch.get_num_threads()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert (speed(), speed()) == (2, 2)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    torch.set_num_threads(threads + 1)
    try:
        assert (speed(), speed()) == (3, 3)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(figures, "processor", lambda: "another")
    assert speed() == 4


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', b"\xff\xfe"])
def test_a_damaged_file_is_measured_anew(cache, tries, text):
    """And replaced."""
    cache.parent.mkdir()
    cache.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert measured(["speed"], "cpu", tries) == measured(["speed"], "cpu", tries) == {"speed": 1}


def test_damaged_figures_are_measured_anew(cache, tries):
    """Those that are no numbers, one by one."""
    measured(["speed"], "cpu", tries)
    figures._measured_here.cache_clear()  # as in another process
    cache.write_text(cache.read_text(encoding="utf-8").replace("1.0", '"fast"'), encoding="utf-8")
    assert measured(["speed"], "cpu", tries) == {"speed": 2}


def test_a_folder_that_cannot_be_written_is_no_error(cache, tries):
    """Each process measures for itself."""
    cache.parent.write_text("in its place", encoding="utf-8")
    assert measured(["speed"], "cpu", tries) == measured(["speed"], "cpu", tries) == {"speed": 1}


def test_what_is_measured_beside_others_is_not_remembered(cache, monkeypatch):
    """One thread's, as often as there are threads: waiting for each other they say nothing."""
    waited = count()
    monkeypatch.setattr(figures, "_waited", lambda: float(next(waited)))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        told = measured(["speed"], "cpu", lambda: {"speed": 10.0 / torch.get_num_threads()})
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert told == {"speed": 30}
    assert not cache.exists()


def test_threads_are_told_without_torch(tmp_path, monkeypatch):
    """As many as torch begins with: what the environment says, or the physical cores."""
    cpus = [f"processor : {n}\nphysical id : 0\ncore id : {n % 2}\nflags : fma\n" for n in range(4)]
    (tmp_path / "cpuinfo").write_text("\n".join(cpus), encoding="utf-8")
    monkeypatch.setattr(figures, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert figures.threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert figures.threads() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2}, raising=False)
    assert figures.threads() == 1


def test_a_device_that_is_not_there():
    """Is told, whatever torch says of it."""
    with pytest.raises(RunError, match="torch finds no device mps here"):
        product_speed("bf16", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(RunError, match="torch finds no device cuda here"):
            product_speed("bf16", "cuda")
