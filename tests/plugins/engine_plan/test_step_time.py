"""The time of a step is measured, or follows from a speed that is given or known of a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.usefixtures("on_a_cpu")


def test_the_time_is_measured_here(
    plan, train, command, tiny_spec, write_spec, monkeypatch, tmp_path
):
    """Where nothing is assumed: once, then it is known without torch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("engine.hardware.measurements._waited", lambda: 0.0)
    spec = write_spec(tiny_spec)
    (stage,) = json.loads(command("plan", spec, "--json")[0])
    assert stage["assumed"] == []
    assert 0 < stage["step"]["seconds"] < 1000
    code = (
        "import sys; from engine.cli import main\n"
        f"try: main(['plan', {str(spec)!r}, '--json'])\n"
        "except SystemExit: print('torch' in sys.modules, file=sys.stderr)"
    )
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)[0]["step"] == stage["step"]
    assert told.stderr.strip() == "False"


def test_machines_elsewhere(plan, train, command, tiny_spec, write_spec):
    """By a device's name with its memory, speed and links; what is assumed is said."""
    train |= {"strategy": "ddp", "precision": "bf16"}
    (gpu,) = plan("--device", "NVIDIA H100 PCIe", "--nproc", 2)
    assert gpu["memory"]["available"] == 80e9
    assert gpu["step"]["links"] == 64e9
    computing = gpu["step"]["executed_flops"] / 2 / (0.4 * 756e12)
    sending = gpu["step"]["traffic"] / 64e9 + 5e-5
    assert gpu["step"]["seconds"] == pytest.approx(computing + sending)
    assert gpu["assumed"] == [
        "80 GB of memory",
        "40% of its data sheet's speed",
        "links of 64 GB a second",
    ]
    spec = write_spec(tiny_spec)
    _, err = command("plan", spec, "--device", "H100", status=2)
    assert "no data sheet of 'H100' is known; did you mean 'H100-" in err
    assert "near it are '" in err


def test_an_assumed_speed_says_nothing_of_links(plan, train, command, tiny_spec, write_spec):
    """From a machine without accelerators: time is without what is sent, and that is told."""
    train["strategy"] = "ddp"
    (stage,) = plan("--speed", 1e14, "--nproc", 4)
    assert stage["step"]["links"] is None
    assert stage["step"]["seconds"] == pytest.approx(stage["step"]["executed_flops"] / 4 / 1e14)
    assert stage["assumed"] == ["100T FLOPs a second", "a CPU's kernels (--device names others)"]
    out, _ = command("plan", write_spec(tiny_spec), "--speed", 1e14, "--nproc", 4)
    assert "for which no time is counted: --links says how fast" in " ".join(out.split())
    (linked,) = plan("--speed", 1e14, "--nproc", 4, "--links", "10GB")
    sending = stage["step"]["traffic"] / 10e9 + 1e-3
    assert linked["step"]["seconds"] == pytest.approx(stage["step"]["seconds"] + sending)


def test_a_device_of_unknown_speed(train, command, tiny_spec, write_spec, monkeypatch):
    """Has no time, whatever the budget; all else is said."""
    found = ("Radeon of tomorrow", 48e9)
    monkeypatch.setattr("engine_plan.machine.accelerator", lambda: found)
    if torch.cuda.is_available():
        pytest.skip("torch measures what is here")
    for budget in ("6 steps", "1h"):
        train["budget"] = budget
        out, _ = command("plan", write_spec(tiny_spec))
        assert "the speed of 'Radeon of tomorrow' is not known: give --speed" in " ".join(
            out.split()
        )
        assert "FLOPs in" not in out
        (stage,) = json.loads(command("plan", write_spec(tiny_spec), "--json")[0])
        assert stage["step"]["seconds"] is stage["seconds"] is stage["cost"] is None
