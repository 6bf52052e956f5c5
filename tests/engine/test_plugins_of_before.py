"""Plugins that were written for the engine before its rooms (4d5b87c) work, or hear what to change.

``plugins_of_before`` holds what ``engine new-plugin tidy`` wrote then, and the guide's plugin of then.
"""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from engine.errors import PluginError
from engine.registry import Plugins
from engine.testing import StandAloneContext, run_spec

PACKED = Path(__file__).with_name("plugins_of_before")
NEEDED = {"reinforce": {"reward": {"type": "brevity", "free": 2}}}


@pytest.fixture
def unpacked(tmp_path):
    """A folder with a plugin of before."""

    def unpack(name: str) -> Path:
        with tarfile.open(PACKED / f"{name}.tar.gz") as packed:
            packed.extractall(tmp_path / name, filter="data")
        return tmp_path / name

    return unpack


@pytest.fixture
def former(unpacked, install_here):
    """The former guide's plugin, installed; its components by kind."""
    folder = unpacked("guide")
    files = folder.rglob("*.py")
    install_here({str(f.relative_to(folder)): f.read_text(encoding="utf-8") for f in files})
    return next(p for p in Plugins.discover().plugins if p.name == "example").components


def test_what_new_plugin_wrote_passes_its_own_tests(unpacked, warm):
    """Installed by pip: the kit's checks, a run, and one of its example. It hears what to change."""
    folder = unpacked("scaffold")
    pip = ("install", "--no-index", "--no-deps", "--no-build-isolation", "--quiet")
    heard = ("-W", "default::DeprecationWarning")
    tests = ("pytest", "-q", "-p", "no:cacheprovider", "-o", "pythonpath=site", *heard)
    for command in (("pip", *pip, "--target", "site", "."), tests):
        done = warm.run(("-m", *command), cwd=folder, env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
        assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout
    assert "RepetitionProcessor has process(record): return engine.each" in done.stdout


@pytest.mark.filterwarnings("always::DeprecationWarning")
def test_the_former_guide_s_components_are_built_or_say_what_to_change(former, recwarn):
    """Former names warn; of the kinds that have got a base, the error names it."""
    told = {}
    for kind, components in former.items():
        for component in components:
            settings = {"type": component.type, **NEEDED.get(component.type, {})}
            try:
                StandAloneContext().build(kind, settings)
            except PluginError as error:
                told[component.type] = error.hint
    assert told == {
        "addition": "let AdditionEvaluator subclass engine.Evaluator",
        "plain": "let PlainStrategy subclass engine.Strategy",
    }
    assert {w.category for w in recwarn} == {DeprecationWarning}
    assert len({str(w.message) for w in recwarn}) > 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("former")
def test_the_former_guide_s_spec_runs_without_what_was_refused(texts, tmp_path, monkeypatch):
    """Objectives, offline and online, and a callback that subclass former bases."""
    monkeypatch.chdir(tmp_path / "guide")
    shutil.copytree(texts, "texts")
    others = ("stages.sums.train.strategy=single", "stages.sums.train.evaluate=[]")
    run = run_spec(Path("example.yaml"), tmp_path, *others)
    steps = Counter(event["stage"] for event in run.events if event["event"] == "step")
    assert steps == {"base": 6, "sums": 4, "brief": 2}
