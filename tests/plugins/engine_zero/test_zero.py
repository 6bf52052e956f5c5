"""Strategy `zero` on two real processes, beside `single` and `ddp`; and on one."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from engine_plan.estimate import WIDTHS, model_states
from engine_zero.config import Zero
from engine_zero.zero import ZeroStrategy
from support.runs import events, weights

from engine import Parameters, RunError, Setup

_STAGES = (1, 2, 3)
_PRECISIONS = ("fp32", "bf16")


def _two_ranks(warm, folder: Path, steps: int) -> list[dict]:
    warm.ranks(2, [Path(__file__).with_name("two_ranks.py"), folder, "1,2,3", steps])
    found: list[dict] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, _tiny):
    """Where two_ranks.py runs the tiny spec and writes what it saw: all in one start."""
    path = tmp_path_factory.mktemp("two-ranks")
    spec = copy.deepcopy(_tiny)
    spec["stages"]["base"]["train"] |= {
        "precision": "fp32",
        "checkpoint": {"every": "1 steps"},
        "strategy": {"type": "zero", "stage": 3},
    }
    (path / "spec.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def ranks(warm, folder):
    """What it saw on each rank."""
    return _two_ranks(warm, folder, 5)


@pytest.mark.parametrize("stage", _STAGES)
def test_two_ranks_train_as_one_process(ranks, stage):
    """Unequal documents and micro-batches: losses, norms and held-out perplexity to 1e-4; weights to
    1e-4 after six steps of AdamW at 1e-2, named, shaped and typed as `single` exports them."""
    for rank in ranks:
        _check_curve(rank[f"plain/{stage}"])


def _check_curve(found: dict) -> None:
    for ours, theirs in zip(found["curve"], found["single"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    ours, theirs = (torch.tensor(x).exp() for x in found["held_out"])
    assert float(ours) == pytest.approx(float(theirs), rel=1e-4)
    assert found["distance"] < 1e-4


def test_a_stage_divides_what_it_says(ranks):
    """Bytes by storages on each of two ranks, gradients between two micro-batches: half of masters
    and optimizer state (12 a parameter) at all stages, of gradients (4) from 2 on, of weights at 3."""
    for rank in ranks:
        for stage in _STAGES:
            found = rank[f"plain/{stage}"]
            whole, held = found["model_bytes"], found["bytes"]
            share = {kind: held[kind] / whole for kind in held}
            expected = {
                "weights": 0.5 if stage == 3 else 1.0,
                "gradients": 0.5 if stage >= 2 else 1.0,
                "optimizer": 1.5,
            }
            assert share == pytest.approx(expected, rel=0.02)  # padding of the flat tensors
            mine, layout = Parameters(whole / 4, 0), Zero(stage=stage).layout(2)
            plan = model_states(mine, layout, WIDTHS["fp32"], (2, 2))
            planned = (plan.parameters, plan.gradients, plan.optimizer)
            assert planned == pytest.approx(tuple(held.values()), rel=0.02)


@pytest.mark.parametrize("precision", _PRECISIONS)
@pytest.mark.parametrize("stage", _STAGES)
def test_a_bad_step_is_skipped_on_all_ranks(ranks, stage, precision):
    """A NaN on rank 1 only, and a finite spike: nothing changes, bit by bit, average included; and
    the run goes on as one that never met them, nor a gradient without a step, as `ddp` beside it is."""
    for rank in ranks:
        found = rank[f"{precision}/{stage}"]
        assert found["skipped"] == [True, True]
        assert found["spike"] == pytest.approx(found["ddp"][2][1], rel=1e-4)
        assert found["unchanged"]
        assert found["curve"][2:] == [pytest.approx(step, rel=1e-4) for step in found["ddp"][2:]]


@pytest.mark.parametrize("precision", _PRECISIONS)
@pytest.mark.parametrize("stage", _STAGES)
def test_averages_and_frozen_and_recomputed_layers_are_as_with_ddp(ranks, stage, precision):
    """Losses and norms to 1e-4, exported averages to 1e-5; in bf16 from masters never rounded."""
    for rank in ranks:
        found = rank[f"{precision}/{stage}"]
        assert found["curve"] == [pytest.approx(step, rel=1e-4) for step in found["ddp"]]
        assert found["held_out"][0] == pytest.approx(found["held_out"][1], rel=1e-5)
        assert found["distance"] < 1e-5


@pytest.mark.parametrize("stage", _STAGES)
def test_offloaded_to_the_cpu_training_is_the_same(ranks, stage):
    """As `ddp` in bf16, gradients added up in float32; no skipped step's gradient stays behind."""
    for rank in ranks:
        found = rank[f"offloaded/{stage}"]
        assert found["skipped"] == [True, True]
        assert found["curve"] == [pytest.approx(step, rel=1e-4) for step in found["ddp"]]
        assert found["distance"] < 1e-5


@pytest.mark.parametrize("precision", _PRECISIONS)
@pytest.mark.parametrize("stage", _STAGES)
def test_a_checkpoint_goes_on_bit_by_bit(ranks, stage, precision):
    """Loaded into another model, two more steps give all of the unbroken run's state."""
    for rank in ranks:
        found = rank[f"{precision}/{stage}"]
        assert found["taken_over"] == 0
        assert found["resumed"]
        assert found["held_out_resumed"] == 0


@pytest.mark.parametrize("precision", _PRECISIONS)
@pytest.mark.parametrize("stage", _STAGES)
def test_checkpoints_are_read_by_other_strategies(ranks, stage, precision):
    """To `ddp` on two ranks and `single` on one, and back: weights bit by bit, losses to 1e-5."""
    for rank in ranks:
        found = rank[f"{precision}/{stage}"]
        assert [found["to_ddp"], found["to_single"], found["from_ddp"]] == [0, 0, 0]
        for losses in (found["next_to"], found["next_from_ddp"]):
            assert losses == pytest.approx([losses[0]] * len(losses), rel=1e-5)


def test_checkpoints_go_to_mesh_and_back(ranks):
    """In shards and in a pipeline: averages bit by bit, the next loss to 1e-5."""
    for rank in ranks:
        found = rank["meshed"]
        assert found["there"] == found["back"] == [0, 0]
        assert found["next"] == pytest.approx([found["next"][-1]] * 3, rel=1e-5)


def test_one_process_keeps_the_contract_and_stays_quiet():
    """The conformance kit at all stages, offloaded to the CPU, too: standard output is the test's own,
    the root logger is as it was, of the environment DeepSpeed's own names are set. Offloading to disk
    is refused where DeepSpeed cannot build what it needs, and so is a size that it does not take."""
    script = Path(__file__).with_name("one_rank.py")
    env = {n: v for n, v in os.environ.items() if n not in ("LOCAL_RANK", "DS_ACCELERATOR")}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**env, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["same_log"]
    # Where libaio is there, nothing is refused.
    assert found["disk"] is None or ("async_io" in found["disk"] and "libaio-dev" in found["disk"])
    assert (found["disk"] is None) == found["can_use_disk"]
    assert "DeepSpeed refuses its configuration" in found["config"]
    assert "reduce_bucket_size" in found["config"]
    assert {n for n in found["added"] if n in ("LOCAL_RANK", "DS_ACCELERATOR")} == {
        "LOCAL_RANK",
        "DS_ACCELERATOR",
    }


def test_fp16_is_refused_by_the_strategy_itself(tiny_context):
    """For who builds one without a spec."""
    strategy = ZeroStrategy(Zero(), tiny_context)
    with pytest.raises(RunError, match="DeepSpeed has none on CPUs"):
        strategy.prepare(Setup(model=None, optimizer=None, objective=None, precision="fp16"))


@pytest.fixture
def tiny_context():
    """As much of a context as the strategy asks for before it builds anything."""
    from types import SimpleNamespace

    return SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"))


def test_a_killed_run_ends_as_the_unbroken_one(ranks, folder, engine, run_here, prepared, tmp_path):
    """SIGKILL to both ranks and the launcher: the same command gives the same final weights, bit by
    bit; they are those of `single` to 1e-4, and so are losses and perplexity."""
    command = ["run", str(folder / "spec.yaml"), "--nproc", "2", "--json", "--runs"]
    whole, broken = folder / "tiny", prepared(tmp_path / "broken")
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", *command, str(broken.parent)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not events(broken, "checkpoint"):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(events(broken, "step")) < 6
    engine(*command, broken.parent)
    spec = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    spec["stages"]["base"]["train"]["strategy"] = "single"
    alone = run_here(spec).folder
    ours, theirs, single = (weights(run) for run in (whole, broken, alone))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {n: (t.shape, t.dtype) for n, t in ours.items()} == {
        n: (t.shape, t.dtype) for n, t in single.items()
    }
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, single[name], rtol=1e-4, atol=1e-4)
    for event, field in (("step", "loss"), ("score", "value")):
        values = [[e[field] for e in events(run, event)] for run in (whole, alone)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.soak
def test_fifty_steps_at_every_stage(warm, tmp_path):
    """The curve stays within 1e-4 of `single`'s; so do perplexity and weights."""
    for rank in _two_ranks(warm, tmp_path, 50):
        for stage in _STAGES:
            _check_curve(rank[f"plain/{stage}"])


@pytest.mark.soak
def test_offloaded_to_disk_the_curve_is_the_same(tiny_spec, write_spec, tmp_path):
    """A model large enough to be swapped; its files are seen while it trains."""
    from deepspeed.ops.op_builder import AsyncIOBuilder

    if not AsyncIOBuilder().is_compatible():
        pytest.skip("DeepSpeed's async_io needs libaio's headers (libaio-dev)")
    train = tiny_spec["stages"]["base"]["train"]
    train["model"] |= {"hidden_size": 512, "heads": 8}
    disk = {"offload_optimizer": "disk", "offload_parameters": "disk"}
    folder = tmp_path / "offloaded"
    folder.mkdir()
    losses, largest = [], 0
    for more in ({}, {**disk, "offload_folder": str(folder)}):
        train["strategy"] = {"type": "zero", "stage": 3, **more}
        runs = tmp_path / f"runs-{len(losses)}"
        command = [sys.executable, "-m", "engine.cli", "run", write_spec(tiny_spec)]
        command += ["--nproc", "2", "--runs", runs]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
        while process.poll() is None:
            largest = max(largest, sum(f.stat().st_size for f in folder.rglob("*.swp")))
            time.sleep(0.05)
        assert process.returncode == 0
        losses.append([e["loss"] for e in events(runs / "tiny", "step")])
    assert largest > 20 * 2**20
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
