"""Compiled layers and exact resume: a shape alone decides by which kernels it is computed."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pyarrow.lib
import pytest
import torch
from support.runs import weights
from torch import nn
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from engine.errors import RunError
from engine.hardware.compiling import own_kernels
from engine.modeling import compile_layers


@pytest.fixture
def compiled_spec(tiny_spec):
    """Scored at lengths of many kinds before the ramp brings the second number of rows."""
    train = tiny_spec["stages"]["base"]["train"]
    train["model"]["layers"] = 1
    train |= {
        "precision": "fp32",
        "optimizer": {"type": "adamw", "lr": 3e-3, "schedule": {"type": "constant"}},
        "batch": {"tokens": 128, "ramp": {"every": "4 steps", "most": 192}},
        "budget": "5 steps",
        "compile": True,
        "evaluate": [{"type": "perplexity", "every": "3 steps", "stride": n} for n in (5, 32)],
    }
    train["optimizer"]["schedule"]["warmup"] = "1 steps"
    return tiny_spec


def test_scored_and_ramped_a_resumed_run_computes_by_the_same_kernels(
    compiled_spec, write_spec, prepared, warm, tmp_path
):
    """What is scored is not compiled for, so a new shape is not the one too many for dynamo in the
    unbroken run, and compiled in the resumed one. Nor does dynamo say anything."""
    prepared(tmp_path / "whole")
    script = Path(__file__).with_name("compiled_runs.py")
    done = warm.run(
        [script, write_spec(compiled_spec), tmp_path, "3 steps"],
        env={"TORCHINDUCTOR_COMPILE_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout.splitlines()[-1])["graphs"] == [2, 1, 2]  # 4 rows, and 6
    whole, broken = (weights(tmp_path / name / "tiny") for name in ("whole", "broken"))
    assert [name for name in whole if not torch.equal(whole[name], broken[name])] == []


@pytest.mark.soak
def test_in_processes_of_their_own(compiled_spec, write_spec, prepared, engine, tmp_path):
    """The same from the command line, more steps."""
    compiled_spec["stages"]["base"]["train"]["batch"]["ramp"]["most"] = 512
    compiled_spec["stages"]["base"]["train"]["batch"]["micro_tokens"] = 160  # five rows, then less
    file = write_spec(compiled_spec)
    found = []
    for name, budgets in {"whole": ["10 steps"], "broken": ["6 steps", "10 steps"]}.items():
        prepared(tmp_path / name)
        for budget in budgets:
            told = engine(
                "run",
                file,
                "--runs",
                tmp_path / name,
                "--set",
                f"stages.base.train.budget={budget}",
            )
            assert "dynamo" not in told.stderr + told.stdout
        found.append(weights(tmp_path / name / "tiny"))
    whole, broken = found
    assert [name for name in whole if not torch.equal(whole[name], broken[name])] == []


def test_kernels_of_other_instructions_are_kept_apart(monkeypatch):
    """Torch finds them again by their graph alone; a folder that the user names is obeyed."""
    found = []
    for limit in ("", "AVX2"):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", default_cache_dir())  # as torch does itself
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        compile_layers(nn.Module())
        found.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert found[0] != found[1]
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/mine")
    compile_layers(nn.Module())
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/mine"


@pytest.mark.parametrize("planted", ["open to all", "a link", "a file"])
def test_kernels_of_somebody_else_are_not_used(planted, tmp_path, monkeypatch):
    """They are code, and all may write where temporary files lie."""
    folder = tmp_path / f"engine-kernels-{os.getuid()}"
    if planted == "open to all":
        folder.mkdir()
        folder.chmod(0o777)
    elif planted == "a link":
        folder.symlink_to(tmp_path)
    else:
        folder.touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with pytest.raises(RunError, match="is not a folder that only you own"):
        own_kernels()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_a_kernel_that_a_killed_linker_left_half_is_not_loaded(tmp_path, monkeypatch):
    """One that is being written is waited for; whole ones stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    own_kernels()
    kernels = Path(os.environ.pop("TORCHINDUCTOR_CACHE_DIR"))
    library = Path(pyarrow.lib.__file__).read_bytes()
    files = {kernels / "a" / f"{kind}.so": kind for kind in ("whole", "empty", "half", "written")}
    (kernels / "a").mkdir(parents=True)
    for file, kind in files.items():
        size = {"whole": len(library), "empty": 0}.get(kind, len(library) // 2)
        file.write_bytes(library[:size])
        if kind != "written":
            os.utime(file, (0, 0))
    written = kernels / "a" / "written.so"
    linker = threading.Timer(1, written.write_bytes, [library])
    linker.start()
    own_kernels()
    linker.join()
    assert sorted(file.name for file in files if file.exists()) == ["whole.so", "written.so"]
    assert written.read_bytes() == library
