"""Which device a process takes, and devices that do not go together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from engine.errors import RunError
from engine.hardware import devices
from engine.hardware.devices import (
    Described,
    check_alike,
    describe,
    device_of,
    remark,
)
from engine.processes.process import Process


@pytest.fixture
def gpus(monkeypatch):
    """Has torch find so many GPUs, of this name."""

    def found(count: int, name: str = "NVIDIA H100 80GB HBM3") -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda device: SimpleNamespace(name=name, uuid=f"GPU-{device.index}"),
        )

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_DRIVER_FILES", ())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return found


def test_a_process_takes_the_gpu_of_its_number(gpus, monkeypatch):
    """Or the only one that its scheduler shows to it; without any, the CPU."""
    gpus(4)
    assert [Process(rank, 8, rank % 4).device.index for rank in range(8)] == [0, 1, 2, 3] * 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    gpus(1)
    assert device_of(3) == torch.device("cuda", 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpus(0)
    assert device_of(3) == torch.device("cpu")


def test_a_number_without_a_gpu_is_refused(gpus):
    """It would share one with another process."""
    gpus(2)
    with pytest.raises(
        RunError, match="process 2 of this machine has no GPU: torch finds 2"
    ) as error:
        device_of(2)
    assert "start 2 processes here" in str(error.value)


@pytest.mark.parametrize("shown", ["7", None])
def test_gpus_that_torch_cannot_use(gpus, monkeypatch, tmp_path, shown):
    """Named by the user, or there by the driver's files: training does not fall back to the CPU."""
    gpus(0)
    if shown:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    else:
        monkeypatch.setattr(devices, "_DRIVER_FILES", (tmp_path,))

    def init():
        raise RuntimeError("Found no NVIDIA driver on your system.\nPlease check …")

    monkeypatch.setattr(torch.cuda, "init", init)
    what = "CUDA_VISIBLE_DEVICES=7 names a GPU" if shown else "this machine has an NVIDIA driver"
    with pytest.raises(RunError) as error:
        device_of(0)
    told = str(error.value)
    assert told.startswith(f"{what}, but torch finds none: Found no NVIDIA driver on your system; ")
    assert "CUDA_VISIBLE_DEVICES= engine run …` trains on the CPU" in told


def test_ranks_need_a_gpu_each_of_one_kind(gpus):
    """Another kind, a CPU among GPUs, and one GPU for two are refused; CPUs share what they like."""
    gpus(2)
    zero, one = (describe(torch.device("cuda", index)) for index in range(2))
    check_alike([zero, one])
    check_alike([describe(torch.device("cpu"))] * 3)
    other = Described("NVIDIA L4", "host GPU-9")
    with pytest.raises(RunError, match=r"different kinds .*H100.*: rank 0, 1; NVIDIA L4: rank 2"):
        check_alike([zero, one, other])
    with pytest.raises(RunError, match="CPU: rank 1"):
        check_alike([zero, Described("CPU", "")])
    with pytest.raises(RunError, match="rank 0, 2 share one GPU"):
        check_alike([zero, one, zero])


def test_a_gpu_that_is_not_used_is_named(gpus, monkeypatch, tmp_path):
    """Apple's, and NVIDIA's where torch is built for CPUs: training goes on there."""
    gpus(0)
    assert remark(device_of(0)) is None
    monkeypatch.setattr(devices, "_DRIVER_FILES", (tmp_path,))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built for CPUs" in remark(device_of(0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert remark(device_of(0)) == "Apple's GPU is not used: training runs on the CPU"


def test_a_rank_is_set_to_its_device_before_it_meets_the_others(gpus, monkeypatch):
    """NCCL and CUDA's own copies take the current device where none is named."""
    gpus(2)
    begun = {}
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: begun.update(device=device))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **_: begun.update(backend=backend)
    )
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setattr(Process, "store", lambda self: None)
    monkeypatch.setattr(Process, "all_gather", lambda self, value: [value])
    Process(rank=3, world_size=4, local_rank=1).join()
    assert begun == {"device": torch.device("cuda", 1), "backend": "cpu:gloo,cuda:nccl"}


def test_a_run_says_once_which_gpu_it_does_not_use(monkeypatch, tiny_spec, run_here):
    """And goes on."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    done = run_here(tiny_spec)
    assert done.status == 0
    told = [event["message"] for event in done.events("warning")]
    assert told == ["Apple's GPU is not used: training runs on the CPU"]
