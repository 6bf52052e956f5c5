"""Strategy `mesh` on two and four real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
from engine_parallel.config import Mesh

from engine import ModelShape

TWO = [
    {"data": 2},
    {"shard": 2},
    {"tensor": 2},
    {"tensor": 2, "tied": False},
    {"pipeline": 2},
    {"pipeline": 2, "schedule": "interleaved"},
    {"context": 2},
    {"expert": 2},
]
FOUR = [
    {"data": 2, "shard": 2},
    {"shard": 2, "tensor": 2},
    {"pipeline": 2, "tensor": 2},
    {"pipeline": 2, "context": 2},
    {"pipeline": 2, "expert": 2},
]
DEGREES = ("data", "shard", "tensor", "pipeline", "context", "expert")


def _trained(grids, steps=3, precision="fp32", rate=1e-2):
    """Each grid with what its ranks saw."""
    size = 1
    for degree in DEGREES:
        size *= grids[0].get(degree, 1)
    script = Path(__file__).with_name("grid_ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={size}", str(script), json.dumps(grids)]
    command += [str(steps), precision, str(rate)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return list(zip(grids, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(scope="module")
def on_two():
    return _trained(TWO)


@pytest.fixture(scope="module")
def on_four():
    return _trained(FOUR)


def _agrees(rank, loss=1e-5, weights=1e-4):
    """Losses are sums in another order; Adam divides by tiny gradients, so weights differ more."""
    assert rank["losses"] == pytest.approx(rank["losses_alone"], rel=loss)
    assert rank["norms"] == pytest.approx(rank["norms_alone"], rel=10 * loss)
    assert rank["apart"] < weights
    assert rank["logits_apart"] < 10 * weights
    assert rank["names"]
    assert rank["types"]


def test_every_degree_trains_as_one_process(on_two):
    """In float32: losses to 1e-5, gradient norms, weights and logits; the artefact has one form."""
    for _, ranks in on_two:
        for rank in ranks:
            _agrees(rank)


def test_degrees_combine(on_four):
    """On four processes."""
    for _, ranks in on_four:
        for rank in ranks:
            _agrees(rank)


def test_a_poisoned_batch_is_skipped_on_all_ranks(on_two, on_four):
    """A spike, Inf and NaN on one data rank; neither weights nor optimizer change."""
    for grid, ranks in [*on_two, *on_four]:
        assert all(all(rank["poisoned"]) for rank in ranks), grid


def test_from_its_saved_state_the_next_step_is_the_same_to_the_bit(on_two, on_four):
    """In a strategy made anew."""
    for grid, ranks in [*on_two, *on_four]:
        assert all(rank["resumes"] for rank in ranks), grid


@pytest.mark.covers(*(f"strategy/mesh.{name}" for name in (*DEGREES, "schedule")))
def test_what_each_rank_has(on_two):
    """Copies, or a half of the weights, matrices, layers, rows or experts, as the degree says."""
    of = {json.dumps(grid): ranks for grid, ranks in on_two}
    copies = of['{"data": 2}']
    whole = copies[0]["bytes"]
    assert [rank["data_size"] for rank in copies] == [2, 2]
    shards = of['{"shard": 2}']
    assert [rank["bytes"] for rank in shards] == [whole // 2, whole // 2]
    assert [rank["data_size"] for rank in shards] == [2, 2]
    for rank in of['{"tensor": 2}']:
        vectors = 9 * 32 * 4  # the norms, which both have
        assert rank["bytes"] == (whole + vectors) // 2
        assert (rank["data_size"], max(rank["lengths"])) == (1, 15)
    for rank in of['{"context": 2}']:
        assert (rank["data_size"], max(rank["lengths"])) == (1, 15)
    first, last = of['{"pipeline": 2}']
    assert (first["tensors"], last["tensors"]) == (
        1 + 2 * 9,
        1 + 2 * 9 + 1,
    )  # embedding, layers, norm
    assert (first["runs"], last["runs"]) == ([[0, 1]], [[2, 3]])
    first, last = of['{"pipeline": 2, "schedule": "interleaved"}']
    assert (first["runs"], last["runs"]) == ([[0], [2]], [[1], [3]])
    for rank in of['{"expert": 2}']:
        assert (rank["data_size"], rank["experts"]) == (2, 2)


def test_bytes_of_weights_and_optimizer_fall_as_one_over_n(on_two, on_four):
    """Counted from the tensors' storages: with shard 2, and shard 2 × tensor 2."""
    of = {json.dumps(grid): ranks for grid, ranks in [*on_two, *on_four]}
    (whole, *_), halves = of['{"data": 2}'], of['{"shard": 2}']
    quarters = of['{"shard": 2, "tensor": 2}']
    for kind in ("bytes", "optimizer_bytes"):
        for rank in halves:
            assert rank[kind] == pytest.approx(whole[kind] / 2, rel=0.01)
        for rank in quarters:
            assert rank[kind] == pytest.approx(whole[kind] / 4, rel=0.03)  # norms are not cut


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_is_as_narrow_on_one_process(precision):
    """Narrow products beside float32 masters, which sum in another order: 1 % of the loss."""
    for _, ranks in _trained([{"shard": 2}, {"tensor": 2}, {"pipeline": 2}], precision=precision):
        for rank in ranks:
            assert rank["losses"] == pytest.approx(rank["losses_alone"], rel=1e-2)
            assert all(rank["poisoned"])
            assert rank["resumes"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", [2, 4])
def test_fifty_steps_of_every_grid(size):
    """Every degree and every pair of degrees: loss curves to 1e-4, weights to 1e-2."""
    # Two heads of keys are not cut in four, and experts not by `tensor`.
    grids = [{d: size} for d in DEGREES if (d, size) != ("tensor", 4)]
    if size == 4:
        pairs = [pair for pair in combinations(DEGREES, 2) if set(pair) != {"tensor", "expert"}]
        grids += [dict.fromkeys(pair, 2) for pair in pairs]
    # At a tenth of the other tests' rate: at that, noise doubles every few steps.
    for grid, ranks in _trained(grids, steps=50, rate=1e-3):
        curves = zip(ranks[0]["losses"], ranks[0]["losses_alone"], strict=True)
        worst = max(abs(a / b - 1) for a, b in curves)
        print(f"{grid}: losses {worst:.1e}, weights {ranks[0]['apart']:.1e} apart")
        for rank in ranks:
            _agrees(rank, loss=1e-4, weights=1e-2)
            assert all(rank["poisoned"])
            assert rank["resumes"]


def _losses(run):
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [e["loss"] for e in map(json.loads, lines) if e["event"] == "step"]


def test_a_run_goes_on_under_another_strategy(tiny_spec, write_spec, engine, tmp_path):
    """One process, a pipeline, shards of matrices, copies: the curve of one process throughout."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"precision": "fp32", "budget": "2 steps"}
    train["model"]["kv_heads"] = 2
    train["optimizer"]["schedule"] = {"type": "constant"}
    spec, runs = write_spec(tiny_spec), tmp_path / "runs"
    engine("run", spec, "--runs", runs)
    strategies = ["{type: mesh, pipeline: 2}", "{type: mesh, tensor: 2}", "ddp"]
    for number, strategy in enumerate(strategies, 2):
        changes = [f"strategy={strategy}", f"budget={2 * number} steps"]
        options = [o for c in changes for o in ("--set", f"stages.base.train.{c}")]
        engine("run", spec, "--runs", runs, "--nproc", 2, *options)
    alone = tmp_path / "alone"
    engine("run", spec, "--runs", alone, "--set", "stages.base.train.budget=8 steps")
    assert len(_losses(runs / "tiny")) == 8
    assert _losses(runs / "tiny") == pytest.approx(_losses(alone / "tiny"), rel=1e-4)


def test_killed_on_a_grid_a_run_is_bit_identical(tiny_spec, write_spec, engine):
    """Promise 1, with a matrix of both ends of a pipeline."""
    tiny_spec["stages"]["base"]["train"]["strategy"] = {"type": "mesh", "pipeline": 2}
    arguments = ("--nproc", 2, "--kills", 1)
    told = engine("verify-resume", write_spec(tiny_spec), *arguments).stdout
    assert "identical: every weight, bit by bit" in told


@pytest.mark.parametrize(
    ("grid", "processes", "told"),
    [
        ({"shard": 2, "tensor": 2}, 6, "shard 2 × tensor 2 makes a multiple of 4 processes, not 6"),
        ({"data": 2, "shard": 2}, 8, "data 2 × shard 2 makes 4 processes, not 8; use --nproc 4, or"),
        ({"data": 1, "shard": 3}, 2, "shard 3 makes 3 processes, not 2; use --nproc 3"),
    ],
)  # fmt: skip
def test_degrees_that_do_not_multiply_to_the_processes(grid, processes, told):
    """With the numbers that would work."""
    assert Mesh(**grid).check_processes(processes).startswith(told)
    assert Mesh(**grid).check_processes(12) is None or grid.get("data")


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ({"tensor": 3}, "tensor: heads 4 is not a multiple of 3; use one of 1, 2, 4"),
        ({"tensor": 4}, "tensor: kv_heads 2 is not a multiple of 4; use one of 1, 2"),
        ({"pipeline": 6}, "pipeline: 5 layers cannot be cut into 6 runs; use at most 5"),
        (
            {"pipeline": 4, "schedule": "interleaved"},
            "pipeline: 5 layers cannot be cut into 8 runs; use at most 2",
        ),
        ({"expert": 3}, "expert: 8 experts are not a multiple of 3; use one of 1, 2, 4, 8"),
    ],
)
def test_a_model_that_cannot_be_cut_so(grid, told):
    """With the numbers that would work."""
    sizes = {"layers": 5, "hidden_size": 32, "heads": 4, "kv_heads": 2, "intermediate_size": 48}
    experts = 8 if "expert" in grid else 1
    shape = partial(ModelShape, **sizes, vocabulary=64, context=32)(experts=experts)
    assert Mesh(**grid).check_model(shape, 4) == told
