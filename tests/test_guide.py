"""The plugin author's guide holds: its plugin as it stands there, its tests and its spec."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
from engine_tools.guide import examples
from engine_tools.new_plugin import write_plugin
from transformers import AutoModelForCausalLM

from engine import register_architectures
from engine.contracts.hooks import HOOK_OF_KIND
from engine.registry import Plugins
from engine.testing import check_component, run_spec, train_tiny

GUIDE = Path(__file__).parents[1] / "contrib" / "README.md"
KINDS = [pytest.param(kind, marks=pytest.mark.covers(h)) for kind, h in HOOK_OF_KIND.items()]


@pytest.fixture
def plugin(guide, install_here):
    """The guide's plugin, installed."""
    install_here({path: text for path, text in guide.items() if path.startswith("engine_example/")})
    return next(p for p in Plugins.discover().plugins if p.name == "example")


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_a_component_of_each_kind_that_keeps_its_contract(plugin, kind):
    """Whoever copies from it begins with something right."""
    needed = {"reinforce": {"reward": {"type": "brevity", "free": 2}}}
    for component in plugin.components[kind]:
        check_component(kind, {"type": component.type, **needed.get(component.type, {})})


@pytest.mark.usefixtures("plugin")
def test_its_tests_pass(guide, tmp_path):
    """Each of them."""
    names: dict = {}
    exec(guide["tests/test_example.py"], names)
    tests = [test for name, test in names.items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        test(*([tmp_path] if inspect.signature(test).parameters else []))


@pytest.mark.usefixtures("plugin")
def test_a_component_is_built_and_timed_without_a_spec(guide, capsys, tmp_path, monkeypatch):
    """What is printed has the batch, and how long the optimizer's step took."""
    monkeypatch.chdir(tmp_path)
    exec(guide["debug.py"], {})
    printed = capsys.readouterr().out
    assert "Batch(inputs={'input_ids': tensor([[" in printed
    assert "Optimizer.step#Adafactor.step" in printed


@pytest.mark.usefixtures("plugin")
def test_its_spec_runs(guide, tmp_path, monkeypatch):
    """With all of it: the callback ends a stage, the observer is told."""
    monkeypatch.chdir(tmp_path)
    Path("example.yaml").write_text(guide["example.yaml"], encoding="utf-8")
    run = run_spec(Path("example.yaml"), Path("runs"))
    steps = [(e["stage"], e["step"]) for e in run.events if e["event"] == "step"]
    counts = {"base": 6, "sums": 4, "brief": 2}
    assert steps == [(stage, n) for stage, count in counts.items() for n in range(1, count + 1)]
    rounds = sorted((run.folder / "brief" / "rollouts").iterdir())
    rows = [json.loads(line) for file in rounds for line in file.read_text().splitlines()]
    assert [row["reward"] for row in rows] == [
        -0.5 * max(len(row["answer"]) - 2, 0) for row in rows
    ]
    assert len(rounds) == 2
    assert (run.folder / "ended.txt").read_text() == "done\n"


@pytest.mark.covers("engine_architectures")
@pytest.mark.usefixtures("plugin")
def test_its_architecture_keeps_the_contract_and_opens_in_transformers(tmp_path):
    """Built from the fields of its configuration, as the guide says."""
    model = {"type": "causal-lm", "architecture": "running-mean", "config": {"hidden_size": 64}}
    check_component("model", model)
    run = train_tiny(
        tmp_path, plugins=["example"], model=model, batch={"tokens": 480, "sequence": 48}
    )
    assert run.losses[-1] < run.losses[0]
    register_architectures()
    opened = AutoModelForCausalLM.from_pretrained(run.folder / "base" / "final")
    assert opened.model.mix.in_features == 64


def test_new_plugin_knows_its_example_of_every_kind(guide):
    """And its spec uses each; what `engine new-plugin` writes is taken from there."""
    assert examples().keys() == HOOK_OF_KIND.keys()
    assert {e.hook for e in examples().values()} == set(HOOK_OF_KIND.values())
    unused = [e.type for e in examples().values() if f"type: {e.type}" not in guide["example.yaml"]]
    assert unused == []


def test_what_it_says_of_packaging_is_what_is_written(tmp_path):
    """The entry point in pyproject.toml, as `engine new-plugin` writes it."""
    (shown,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    written = (write_plugin("example", tmp_path) / "pyproject.toml").read_text(encoding="utf-8")
    assert re.sub(r"^ +", "", shown, flags=re.M) in written


def test_its_links_lead_somewhere():
    """Relative ones, from where it is; those of the reference, too."""
    texts = (GUIDE.with_name(name).read_text(encoding="utf-8") for name in ("README.md", "API.md"))
    links = [link for text in texts for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text)]
    assert [
        link for link in links if "://" not in link and not (GUIDE.parent / link).exists()
    ] == []
