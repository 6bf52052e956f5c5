"""What a process has here: memory of the machine, of its container or of its accelerator."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import machine
from engine.launch import Process
from engine.machine import Machine

SMI = """#!/bin/sh
echo 'NVIDIA A100-SXM4-80GB, 81920'
echo 'NVIDIA H100 PCIe, 81559'
"""


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A machine without accelerators, of 8 GB, and a folder for its programs."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8000000 kB\nMemFree:          100000 kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", meminfo)
    monkeypatch.setattr(machine, "_LIMIT", tmp_path / "memory.max")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    machine._accelerator.cache_clear()
    yield tmp_path
    machine._accelerator.cache_clear()


def test_memory_is_shared_by_the_processes_here(bare):
    """The machine's, or less where a container may not have all."""
    assert Machine.here(1).memory == 8_192_000_000
    assert Machine.here(4).memory == 2_048_000_000
    (bare / "memory.max").write_text("max\n")
    assert Machine.here(1).memory == 8_192_000_000
    (bare / "memory.max").write_text("4000000000\n")
    assert Machine.here(2).memory == 2e9
    assert Machine.here(2).device == "cpu"


def test_an_accelerator_for_each_process(bare, monkeypatch):
    """The smallest of them counts; none where the environment hides them."""
    program = bare / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(SMI)
    program.chmod(0o755)
    here = Machine.here(2)
    assert (here.device, here.name, here.memory) == ("cuda", "NVIDIA H100 PCIe", 81559 * 2**20)
    assert here.speed("bf16") == 8 * here.speed("fp32") == 0.4 * 989e12
    machine._accelerator.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Machine.here(2).device == "cpu"


def test_a_driver_that_does_not_answer(bare):
    """As if there were none."""
    program = bare / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    program.chmod(0o755)
    assert Machine.here(1).device == "cpu"


def test_speed_is_measured_once_and_shared(bare, monkeypatch):
    """A matrix product's, by the processes; or what somebody assumes."""
    one, two = Machine.here(1), Machine.here(2)
    assert one.speed("fp32") == 2 * two.speed("fp32") > 0
    monkeypatch.setattr(machine, "_CPUINFO", bare / "cpuinfo")
    for flags, times in (("avx2", 1), ("avx512_bf16", 4), ("avx512_bf16 amx_bf16", 8)):
        (bare / "cpuinfo").write_text(f"flags : fma {flags}\n")
        assert one.speed("bf16") == times * one.speed("fp32")
    assert Machine("cpu", "", 1, 4, assumed_speed=5e12).speed("fp32") == 5e12


def test_processes_here_as_a_launcher_says(monkeypatch):
    """Or one, where it does not."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert Process(3, 8).local_world_size == 1
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "4")
    assert Process(3, 8).local_world_size == 4
