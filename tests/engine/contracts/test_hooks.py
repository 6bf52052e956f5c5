"""Hooks are documented and tested, and called as they are documented."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from engine import RunError
from engine.cli.commands import cli
from engine.contracts import hooks as hookspecs
from engine.contracts.hooks import HOOK_OF_KIND
from engine.event_log import EventLog, SilentDisplay
from engine.processes.process import Process
from engine.registry import Plugins
from engine.runs.observers import Observers

HOOKS = {n: hook for n, hook in vars(hookspecs).items() if hasattr(hook, "engine_spec")}
DECLARING = {*HOOK_OF_KIND.values(), "engine_architectures"}
ASKED = {
    "engine_commands", "engine_permissions", "engine_check", "engine_expectation",
    "engine_out_of_memory",
}  # fmt: skip
OBSERVERS = HOOKS.keys() - DECLARING - ASKED
GUIDE, REFERENCE = (
    Path(__file__).parents[3] / "contrib" / name for name in ("README.md", "API.md")
)

WATCHER = """
from engine import hookimpl

seen = []
STOP_IN = None
"""
for name in sorted(OBSERVERS):
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    WATCHER += f"""

@hookimpl
def {name}({arguments}):
    seen.append(("{name}", dict(locals())))
    if STOP_IN == "{name}":
        import signal

        signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented(name):
    """By a docstring, in the reference's table, and where it declares by an example in the guide."""
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    assert inspect.getdoc(HOOKS[name])
    assert f"| `{name}({arguments})` |" in REFERENCE.read_text(encoding="utf-8")
    assert name in OBSERVERS or f"def {name}(" in GUIDE.read_text(encoding="utf-8")


def test_every_hook_is_tested(covered):
    """By a test that says so; and no mark names a hook that is gone."""
    assert {name for name in covered if name.startswith("engine_")} == HOOKS.keys()


@pytest.fixture
def watched(tiny_spec, install_here):
    """The tiny spec with a plugin in it that notes all that it is told, and what it noted."""
    install_here({"engine_watcher/plugin.py": WATCHER})
    tiny_spec["plugins"] = ["watcher"]
    return tiny_spec, lambda: sys.modules["engine_watcher.plugin"].seen


@pytest.mark.covers("Spec.plugins", *OBSERVERS)
def test_observers_are_told_what_happens(watched, run_here):
    """All that a run does, with the arguments that are documented."""
    spec, seen = watched
    spec["stages"]["base"]["train"] |= {"budget": "2 steps", "checkpoint": {"every": "2 steps"}}
    run = run_here(spec)
    folder = str(run.folder)
    resolved = yaml.safe_load((run.folder / "resolved.yaml").read_text(encoding="utf-8"))
    saves = [told for hook, told in seen() if hook == "engine_checkpoint_saved"]
    assert [(told["stage"], told["step"]) for told in saves] == [("base", 0), ("base", 2)]
    assert Path(saves[1]["folder"]) == run.folder / "base" / "checkpoints" / "step-000000002"
    assert [told for told in seen() if told[0] != "engine_checkpoint_saved"] == [
        ("engine_run_started", {"folder": folder, "spec": resolved}),
        ("engine_stage_started", {"stage": "base", "verb": "train"}),
        *(("engine_step_finished", {"event": event}) for event in run.events("step")),
        ("engine_stage_finished", {"stage": "base", "verb": "train", "folder": f"{folder}/base"}),
        ("engine_run_finished", {"folder": folder, "status": "done"}),
    ]


def test_a_stage_that_is_done_is_not_told_of_again(watched, run_here):
    """Only that the run began and ended."""
    spec, seen = watched
    run_here(spec)
    seen().clear()
    run_here(spec)
    assert [hook for hook, _ in seen()] == ["engine_run_started", "engine_run_finished"]


def test_a_run_that_fails_or_is_stopped_ends_as_well(watched, run_here, monkeypatch):
    """With its status; a signal may come anywhere, in a training loop and outside."""
    spec, seen = watched
    frozen = {"overrides": ["stages.base.train.freeze=['*']"]}
    with pytest.raises(RunError, match="no parameter is left to train"):
        run_here(spec, runs="failed", **frozen)
    assert seen()[-1][1]["status"] == "failed"
    for place in ("engine_step_finished", "engine_stage_started"):
        monkeypatch.setattr(sys.modules["engine_watcher.plugin"], "STOP_IN", place)
        assert run_here(spec, runs=place).status == 1
        assert seen()[-1][1]["status"] == "stopped"


def test_a_checkpoint_is_whole_when_it_is_told_of(tiny_spec, install_here, run_here):
    """So an observer may copy it away."""
    install_here({"engine_copier/plugin.py": COPIER})
    tiny_spec["plugins"] = ["copier"]
    run = run_here(tiny_spec)
    assert run.events("warning") == []
    assert sys.modules["engine_copier.plugin"].verified >= 2


COPIER = """
from pathlib import Path

from engine import hookimpl

verified = 0


@hookimpl
def engine_checkpoint_saved(folder):
    from engine.storage.manifest import verify

    global verified
    verify(Path(folder))
    verified += 1
"""


def test_an_observer_that_raises_is_logged_and_the_run_goes_on(watched, install_here, run_here):
    """Under its plugin's name; other observers are told all the same, and no number changes."""
    spec, seen = watched
    losses = run_here(spec, runs="well").steps("loss")
    told = list(seen())
    seen().clear()
    raising = (
        "from engine import hookimpl\n\n\n@hookimpl\ndef {}():\n    raise OSError('disk full')\n"
    )
    install_here({"engine_clumsy/plugin.py": "".join(map(raising.format, sorted(OBSERVERS)))})
    spec["plugins"] = ["clumsy", "watcher"]
    run = run_here(spec, runs="ill")
    assert run.status == 0
    assert run.steps("loss") == losses
    warnings = {event["message"] for event in run.events("warning")}
    assert warnings == {f"plugin 'clumsy' failed in {h}: OSError: disk full" for h in OBSERVERS}
    assert sorted(hook for hook, _ in seen()) == sorted(hook for hook, _ in told)


def test_only_rank_0_tells(install_here, tmp_path):
    """What happens once is told once."""
    install_here({"engine_watcher/plugin.py": WATCHER})
    log = EventLog(None, SilentDisplay())
    for rank in (0, 1):
        observers = Observers(Plugins.discover(), log, Process(rank=rank, world_size=2))
        observers.tell("engine_stage_started", stage="base", verb=f"by {rank}")
    told = sys.modules["engine_watcher.plugin"].seen
    assert told == [("engine_stage_started", {"stage": "base", "verb": "by 0"})]


@pytest.mark.covers("engine_commands")
def test_commands_appear_under_their_plugin(guide, install_here, finished_run):
    """As `engine PLUGIN COMMAND`, in the help and for use."""
    install_here({p: text for p, text in guide.items() if p.startswith("engine_example/")})
    engine = CliRunner()
    assert "Commands of the plugin example." in engine.invoke(cli, ["--help"]).output
    assert "Prints the loss of every step" in engine.invoke(cli, ["example", "--help"]).output
    done = engine.invoke(cli, ["example", "losses", str(finished_run)])
    assert done.exit_code == 0
    assert [line.split()[:2] for line in done.output.splitlines()] == [
        ["base", f"{step}:"] for step in range(1, 7)
    ]
