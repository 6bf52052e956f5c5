"""What `auto` means: chosen when a stage begins, recorded, and kept when it is resumed."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from support.runs import events

from engine import SpecError
from engine.hardware import precision
from engine.hardware.precision import best, cannot, resolved
from engine.runs.run import _choices
from engine.storage.stage_record import Standing

_OLD_RUN = Path(__file__).parents[1] / "runs_of_before" / "without_precision.tar.gz"
_FLAGS = "processor\t: 0\nvendor_id\t: x\nflags\t\t: fpu sse avx2 {}\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this machine one with such instructions, products of such speeds, and no forced choice."""

    def make(cpuinfo: str | None, **speeds: float) -> None:
        file = tmp_path / "cpuinfo"
        if cpuinfo is not None:
            file.write_text(cpuinfo, encoding="utf-8")
        monkeypatch.setattr(precision, "_CPUINFO", file)
        monkeypatch.setattr(precision, "product_speeds", lambda names, device: speeds)
        for name in (precision.FORCED, *precision._LIMITS):
            monkeypatch.delenv(name, raising=False)

    return make


def _recorded(run) -> dict[str, object]:
    return json.loads((run.folder / "base" / "stage.json").read_text(encoding="utf-8"))["choices"]


@pytest.mark.parametrize(
    ("cpuinfo", "chosen"),
    [
        (_FLAGS.format("avx512f avx512_bf16"), "bf16"),
        (_FLAGS.format("avx512f amx_bf16 amx_tile"), "bf16"),
        (_FLAGS.format("avx512f avx512_vnni"), "fp32"),
        (_FLAGS.format(""), "fp32"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", "bf16"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "fp32"),
    ],
)
def test_the_processors_instructions_tell(machine, cpuinfo, chosen):
    """Nothing is measured where they do: there are no speeds to be had here."""
    machine(cpuinfo)
    assert best("cpu") == chosen


@pytest.mark.parametrize(("speeds", "chosen"), [((9e9, 90e9), "fp32"), ((300e9, 90e9), "bf16")])
@pytest.mark.parametrize("why", ["no flags", "limited"])
def test_products_are_measured_where_instructions_do_not_tell(
    machine, monkeypatch, speeds, chosen, why
):
    """Where the system does not list them, or the environment forbids kernels to use them."""
    flags = _FLAGS.format("amx_bf16") if why == "limited" else None
    machine(flags, bf16=speeds[0], fp32=speeds[1])
    if why == "limited":
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert best("cpu") == chosen


@pytest.mark.parametrize(
    ("capability", "chosen", "refused"),
    [((9, 0), "bf16", False), ((8, 0), "bf16", False), ((7, 5), "fp16", True)],
)
def test_older_gpus_compute_in_fp16(machine, monkeypatch, capability, chosen, refused):
    """bf16 came with compute capability 8.0; where it is not there, it is refused with what is."""
    machine(None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert best("cuda:1") == chosen
    assert cannot("fp16", "cuda:1") is None
    told = cannot("bf16", "cuda:1")
    assert (
        (told == "bf16 needs compute capability 8.0, and this GPU has 7.5") if refused else not told
    )


@pytest.mark.parametrize("chosen", ["fp32", "bf16", "fp16"])
def test_a_switch_forces_the_choice(machine, monkeypatch, chosen):
    """Whatever the machine; what a spec says is obeyed all the same."""
    machine(_FLAGS.format("amx_bf16"))
    monkeypatch.setenv(precision.FORCED, chosen)
    assert resolved("auto", "cpu") == chosen
    assert resolved("fp32", "cpu") == "fp32"


def test_a_wrong_switch_is_told(machine, monkeypatch):
    """With what it may be."""
    monkeypatch.setenv(precision.FORCED, "bf8")
    with pytest.raises(
        SpecError, match="'bf8' is not a precision; choose one of: fp32, bf16, fp16"
    ):
        best("cpu")


@pytest.mark.covers("Train.precision")
def test_a_resumed_stage_keeps_the_choice_on_another_machine(tiny_spec, run_here, machine):
    """It says if another would be faster there; a stage that begins there chooses anew."""
    tiny_spec["stages"]["base"]["train"] |= {"evaluate": [], "budget": "2 steps"}
    machine(_FLAGS.format(""), fp32=90e9, bf16=9e9)
    run = run_here(tiny_spec)
    assert _recorded(run) == {"precision": "fp32", "compile": False}
    machine(_FLAGS.format("amx_bf16"), fp32=90e9, bf16=270e9)
    tiny_spec["stages"]["base"]["train"]["budget"] = "3 steps"
    run = run_here(tiny_spec)
    assert [e["precision"] for e in run.events("training")] == ["fp32", "fp32"]
    (warning,) = run.events("warning")
    assert warning["message"] == (
        "base is trained in fp32, as when it began; products in bf16 are measured to be 3 times faster "
        "on this machine"
    )
    run = run_here(tiny_spec, rerun=["base"])
    assert _recorded(run)["precision"] == run.events("training")[-1]["precision"] == "bf16"


@pytest.mark.parametrize(("written", "warnings"), [("bf16", 1), ("fp32", 0)])
def test_a_precision_that_is_written_is_obeyed(tiny_spec, run_here, machine, written, warnings):
    """With one warning where it is slow; on an AMX machine nobody is told to leave fp32."""
    machine(_FLAGS.format("" if written == "bf16" else "amx_bf16"), fp32=90e9, bf16=9e9)
    tiny_spec["stages"]["base"]["train"] |= {"budget": "1 steps", "precision": written}
    run = run_here(tiny_spec)
    (training,) = run.events("training")
    assert training["precision"] == written
    assert len(run.events("warning")) == warnings
    assert "precision" not in _recorded(run)


def test_a_rank_that_cannot_do_it_ends_the_run_before_the_first_step(
    tiny_spec, run_here, machine, monkeypatch
):
    """With the rank, the reason and what would work."""
    machine(_FLAGS.format("amx_bf16"))
    monkeypatch.setattr("engine.runs.automatic.cannot", lambda precision, device: "bf16 needs more")
    with pytest.raises(Exception, match=r"base: precision bf16: rank 0: bf16 needs more; use fp16"):
        run_here(tiny_spec)


def test_a_run_from_before_auto_is_what_it_was(tmp_path, engine):
    """Made when bf16 was the default and no field said so: its stages are done. A stage that gets more
    steps is refused, as its samples came in another order, and stays as it is."""
    shutil.unpack_archive(_OLD_RUN, tmp_path)
    folder = tmp_path / "runs" / "before-auto"
    final = (folder / "base" / "final" / "model.safetensors").read_bytes()
    run = partial(engine, "run", "legacy.yaml", "--allow", "versions", cwd=tmp_path)
    run(env={precision.FORCED: "fp32"})
    assert [e["stage"] for e in events(folder, "stage_skipped")] == ["corpus", "base"]
    more = run("--set", "stages.base.train.budget=6 steps", status=1)
    assert "another order of samples; resume with that version" in more.stderr
    assert (folder / "base" / "final" / "model.safetensors").read_bytes() == final
    identity, standing = {"precision": "auto"}, Standing({"precision": "bf16"}, "begun", {}, {}, {})
    assert _choices(standing, identity) == {"precision": "bf16"}  # were it to go on
