"""Whole runs of the objectives that learn from records: resumed, accumulated, on two processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from engine_tools.verify_resume import verify_resume

OBJECTIVES = {
    "reward": {"type": "reward", "center": 0.01},
    "cost": {"type": "cost"},
    "dpo": {"type": "dpo", "beta": 0.5},
    "kto": {"type": "kto", "beta": 0.5},
    "distill": {"type": "distill", "teacher": "reference", "divergence": "generalised"},
}
STRATEGIES = [
    {"type": "ddp"},
    {"type": "mesh", "shard": 2},
    {"type": "zero", "stage": 2},
    {"type": "zero", "stage": 3},
]


@pytest.fixture
def spec(stage, animals):
    """The tiny spec, and a stage for every objective; answers are unlike in length, labels are few."""
    rows = []
    for n, row in enumerate(animals):
        labels = {"chosen_safe": True, "rejected_safe": None} if n % 3 else {}
        rows.append({**row, "chosen": row["chosen"] * (1 + n % 4), **labels})
    learned = stage({"type": "dpo"}, rows)["stages"].pop("learned")["train"]
    texts = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    answers = stage({"type": "dpo"}, texts)
    data = answers["stages"].pop("learned")["train"]["data"]
    base = answers["stages"]["base"]["train"]
    teacher = {**base, "model": {**base["model"], "init_std": 0.1}, "evaluate": []}
    answers["stages"] |= {"reference": {"train": {**teacher, "budget": "1 steps"}}}
    for name, objective in OBJECTIVES.items():
        train = {**learned, "objective": objective}
        if name == "distill":
            train["data"] = data
        answers["stages"][name] = {"train": train}
    return answers


def _curves(run: Path) -> dict[str, list[dict]]:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [e for e in map(json.loads, lines) if e["event"] == "step"]
    return {name: [e for e in events if e["stage"] == name] for name in OBJECTIVES}


def _same_curves(ours, theirs, tolerance: float) -> None:
    for name in OBJECTIVES:
        assert [e["step"] for e in ours[name]] == [1, 2, 3, 4], name
        for figure in ("loss", "grad_norm", "margin", "kl"):
            values, others = ([e.get(figure) for e in curve[name]] for curve in (ours, theirs))
            if None not in values:
                wanted = pytest.approx(others, rel=tolerance, abs=tolerance)
                assert values == wanted, f"{name}: {figure}"


def test_resumed_and_accumulated(spec, run_here):
    """Every objective: broken off after two steps of four, the weights are bit by bit those of the
    unbroken run, although reference and teacher are opened anew; in pieces of one row, the curve is
    that of whole batches."""
    whole = run_here(spec, runs="whole")
    assert whole.status == 0
    less = [f"stages.{name}.train.budget=2 steps" for name in OBJECTIVES]
    assert run_here(spec, runs="broken", overrides=less).status == 0
    broken = run_here(spec, runs="broken")
    for name in OBJECTIVES:
        ours, theirs = whole.weights(name), broken.weights(name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[n], theirs[n]) for n in ours), name
        kept = [
            (run.folder / name / "final" / "config.json").read_text() for run in (whole, broken)
        ]
        assert kept[0] == kept[1]
    pieces = [f"stages.{name}.train.batch.micro_tokens=256" for name in OBJECTIVES]
    small = run_here(spec, runs="pieces", overrides=pieces)
    _same_curves(_curves(small.folder), _curves(whole.folder), 1e-4)
    losses = {name: [e["loss"] for e in curve] for name, curve in _curves(whole.folder).items()}
    assert all(len(set(values)) == 4 for values in losses.values())


def test_two_processes_train_as_one(spec, write_spec, run_here, warm, tmp_path):
    """Under `ddp` (broken off in between), `mesh` and `zero`: the curves of `single`, to 1e-4."""
    alone = run_here(spec, runs="alone")
    for number in range(len(STRATEGIES)):
        for name in ("corpus", "base", "reference"):
            folder = tmp_path / "shared" / str(number) / "tiny"
            shutil.copytree(alone.folder / name, folder / name)
    script = Path(__file__).parents[1] / "two_ranks.py"
    strategies = map(json.dumps, STRATEGIES)
    warm.ranks(2, [script, write_spec(spec), tmp_path / "shared", *strategies])
    wanted = _curves(alone.folder)
    # The estimate of KL is never below 0, so the policy's first steps may show none.
    assert all(e["kl"] > 1 for e in wanted["kto"][2:])
    for number in range(len(STRATEGIES)):
        _same_curves(_curves(tmp_path / "shared" / str(number) / "tiny"), wanted, 1e-4)


@pytest.mark.soak
def test_killed_at_random_moments(spec, write_spec):
    """SIGKILL to whole runs, at whatever stage they are."""
    assert verify_resume(write_spec(spec), [], steps=4, kills=7, nproc=1) == 0


def test_a_step_waits_for_the_device_once(spec, run_here, waits):
    """Whatever is learned from."""
    done = run_here(spec)
    assert waits == {"tolist": len(done.events("step"))}
