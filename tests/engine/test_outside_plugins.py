"""Plugins outside the repository: all kinds, an architecture, penalties, and four wrappers.

The kinds and the architecture are those of the author's guide, the rest is in ``support``.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import yaml
from support import runs

LOOKAHEAD = {
    "type": "lookahead",
    "optimizer": {
        "type": "adafactor", "lr": 1e-2,
        "schedule": {"type": "delayed", "schedule": {"type": "linear"}},
    },
}  # fmt: skip
RUNNING_MEAN = {"type": "causal-lm", "architecture": "running-mean", "config": {"hidden_size": 32}}
REWARDS = [{"type": "brevity", "free": 2, "weight": 2}, {"type": "brevity", "free": 5}]
"""Two of one type, whose sum is a reward itself."""


@pytest.fixture
def spec(guide, write_spec) -> Path:
    """The guide's spec, with its own architecture and the wrappers."""
    spec = yaml.safe_load(guide["example.yaml"])
    spec["plugins"].append("outside")
    base, brief = (spec["stages"][name]["train"] for name in ("base", "brief"))
    base |= {"model": RUNNING_MEAN, "optimizer": LOOKAHEAD, "checkpoint": {"every": "1 steps"}}
    base["strategy"] = {"type": "counted", "strategy": "single"}
    base["batch"]["sequence"] = 64
    base["penalties"].append({"type": "distance-to-start", "weight": 0.01})
    brief["objective"]["reward"] = {"type": "sum", "weight": 0.5, "rewards": REWARDS}
    return write_spec(spec)


@pytest.fixture
def ours(guide, install_here, outside, warm):
    """Starts an `engine` that has the plugins; without it they are not installed."""
    install_here({path: text for path, text in guide.items() if path.startswith("engine_example/")})
    script = Path(runs.__file__).with_name("outside.py")
    return lambda *arguments: warm.start([script, outside, *arguments])


def test_their_life(spec, ours, engine, tmp_path):
    """Trained, killed, resumed to the bit, scored, asked, exported; then uninstalled."""
    longer = ["--set", "stages.base.train.budget=60 steps"]

    def done(*arguments):
        program = ours(*arguments)
        output, error = program.communicate(240)
        assert program.wait() == 0, error
        return output

    done("run", spec, *longer, "--runs", tmp_path / "whole")
    whole, folder = tmp_path / "whole" / "example", tmp_path / "runs" / "example"
    program = ours("run", spec, *longer, "--runs", folder.parent)
    while len(runs.steps(folder, stage="base")) < 5:
        assert program.returncode is None
        time.sleep(0.01)
    program.kill()
    program.communicate()
    assert not (folder / "base" / "final").exists()
    done("run", spec, *longer, "--runs", folder.parent)
    assert runs.events(folder, "resumed", stage="base")
    for stage in ("base", "sums", "brief"):
        for name, weight in runs.weights(whole, stage).items():
            assert torch.equal(runs.weights(folder, stage)[name], weight), (stage, name)
    (score,) = runs.events(folder, "score", stage="sums")
    assert score["evaluator"] == "addition"
    step = runs.events(folder, "step", stage="base")[-1]
    assert step["loss/penalty/small-states"] > 0 < step["loss/penalty/distance-to-start"]
    assert done("generate", folder / "brief", "--prompt", "1 + 2 =").startswith("1 + 2 =")
    told = done("export", folder / "brief", tmp_path / "exported")
    assert "after engine.register_architectures(), with engine-example 1.0 installed" in told
    _uninstalled(engine, spec, folder)


def _uninstalled(engine, spec, folder):
    """What needs a plugin says which, in one line each; the rest works."""
    not_here = "spec.yaml:{}: plugins.{}: '{}' is not installed; pip install it"
    unknown = [not_here.format(4, 0, "example"), not_here.format(5, 1, "outside")]
    for command in ("validate", "run", "plan", "verify-resume"):
        lines = engine(command, spec, status=2).stderr.splitlines()
        for line, begins in zip(lines, unknown, strict=True):
            assert line.split("/")[-1].startswith(begins), command
    told = engine("runs", "--runs", folder.parent).stdout
    assert all(stage in told for stage in ("corpus", "base", "sums", "brief"))
    for name in ("example", "outside"):
        installs = f"pip install 'engine-{name}==1.0'"
        assert f"example: plugin {name} (engine-{name} 1.0) is not installed: {installs}" in told
    needs = (
        "the architecture 'running-mean' needs the plugin 'example' of engine-example 1.0, which is "
        "not installed: pip install engine-example"
    )
    for command in (["generate", folder / "brief", "--prompt", "x"], ["chat", folder / "brief"]):
        (line,) = engine(*command, status=1).stderr.splitlines()
        assert line.endswith(f"its model cannot be opened: {needs}")
    (line,) = engine("data", folder / "sums", status=2).stderr.splitlines()
    assert line.startswith("the objective 'answers' cannot be used: plugin example (engine-example")
    told = engine("export", folder / "brief", folder.parent / "exported").stdout
    assert told.endswith("with engine-example 1.0 installed\n")
    assert "round 2 of 2" in engine("rlhf", "rollouts", folder / "brief").stdout
