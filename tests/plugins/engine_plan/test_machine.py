"""What a process has here: memory of the machine, of its container or of its accelerator."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_plan import machine
from engine_plan.machine import LINKS, Links, Machine
from engine_plan.timed.sample import Sample
from engine_plan.timed.speeds import Speeds
from support.internals import Process

from engine import ModelShape, SpecError
from engine.hardware import accelerator

SHAPE = ModelShape(2, 64, 2, 2, 128, 320, 64)
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
    # A library that an earlier test has loaded may have hidden accelerators from this process.
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    accelerator.cache_clear()
    yield tmp_path
    accelerator.cache_clear()


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
    assert here.links == Links(64e9, LINKS["cuda"].latency)
    program.write_text("#!/bin/sh\necho 'Radeon of tomorrow, 49152'\n")
    accelerator.cache_clear()
    assert Machine.here(2).links == LINKS["cuda"]
    accelerator.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Machine.here(2).device == "cpu"


def test_a_driver_that_does_not_answer(bare):
    """As if there were none."""
    program = bare / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    program.chmod(0o755)
    assert Machine.here(1).device == "cpu"


def sample(precision: str) -> Sample:
    """Of a small model."""
    return Sample(SHAPE, 2, 64, "causal", precision)


def test_processes_share_the_speed_that_is_measured(tmp_path, monkeypatch):
    """A layer's and a head's, each measured once; or what somebody assumes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "accelerator", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "threads", lambda: 4)
    one, four = (Machine.here(n).speeds(sample("fp32")) for n in (1, 4))
    assert min(one.layers, one.head) > 1e6
    assert four == Speeds(one.layers / 2, one.head / 2)
    assert Machine.here(2).speeds(sample("fp32")) == one  # four threads each
    assert Machine("cpu", "", 1, 4, 5e12).speeds(sample("bf16")) == Speeds(5e12, 5e12)


@pytest.mark.parametrize(
    ("name", "narrow", "wide"),
    [
        ("NVIDIA H100 PCIe", 756e12, 51e12),
        ("NVIDIA H100 80GB HBM3", 989e12, 67e12),
        ("NVIDIA L4", 121e12, 30.3e12),
        ("NVIDIA L40", 181e12, 90.5e12),
        ("NVIDIA L40S", 362e12, 91.6e12),
    ],
)
def test_accelerators_by_their_whole_names(name, narrow, wide):
    """A part of another's name is another device."""
    there = Machine.elsewhere(name, 1)
    assert there.speeds(sample("bf16")).layers == pytest.approx(0.4 * narrow)
    assert there.speeds(sample("fp32")).head == pytest.approx(0.4 * wide)


def test_links_are_those_of_a_machine_and_of_its_network():
    """A ring leaves a machine of eight devices once, by the adapters of all its ranks in the ring."""
    here, far = (Machine.elsewhere("A100-80GB", n).links for n in (8, 16))
    assert (here.bandwidth, here.network, far.network) == (300e9, None, 25e9)
    assert here.seconds(3e9, 0) == pytest.approx(3 / 300)
    assert far.seconds(3e9, 0) == pytest.approx(3 / 200)  # eight devices of each machine
    assert far.seconds(3e9, 0, near=1e9, neighbours=4) == pytest.approx(1 / 300 + 2 / 50)
    assert far.seconds(3e9, 0, near=1e9, neighbours=16) == pytest.approx(1 / 25 + 2 / 25)


def test_an_unknown_network_is_not_guessed():
    """Links between machines are then unknown."""
    assert Machine.elsewhere("NVIDIA L4", 8).links.bandwidth == 32e9
    assert Machine.elsewhere("NVIDIA L4", 9).links is None


def test_devices_without_bf16():
    """Multiply in it no faster than in float32."""
    there = Machine.elsewhere("Tesla T4", 1)
    assert there.speeds(sample("bf16")) == there.speeds(sample("fp32"))
    assert there.speeds(sample("fp16")).layers > 5 * there.speeds(sample("bf16")).layers


def test_unknown_devices_have_no_speed():
    """Nothing is guessed."""
    assert Machine("cuda", "NVIDIA H1000", 80e9, is_here=False).speeds(sample("bf16")) is None
    with pytest.raises(SpecError, match="no data sheet of 'NVIDIA H1000' is known"):
        Machine.elsewhere("NVIDIA H1000", 1)


def test_processes_here_as_a_launcher_says(monkeypatch):
    """Or one, where it does not."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert Process(3, 8).local_world_size == 1
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "4")
    assert Process(3, 8).local_world_size == 4
