"""The versions of the plugins that a stage uses belong to it, as those of torch do."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.record_stages import with_records

from engine.errors import RunError
from engine.runs.components import code_of, used_plugins
from engine.spec.loading import load_spec
from engine.storage.run_folder import RunFolder

PLUGIN = """
from engine import Component, hookimpl


def own(type):
    return [Component(type, f"engine_own.parts:{type.title()}", f"engine_own.parts:{type}", "Own.")]


@hookimpl
def engine_callbacks():
    return own("quiet")


@hookimpl
def engine_processors():
    return own("all")


@hookimpl
def engine_evaluators():
    return own("zero")
"""
PARTS = '''
from engine import Callback, Config, Evaluator, EvaluatorConfig, Generation, Item, Score, each


class Quiet(Config):
    """Does nothing."""


class All(Config):
    """Keeps all documents."""


class Zero(EvaluatorConfig):
    """Scores nothing."""


class ZeroEvaluator(Evaluator):
    def items(self):
        yield Item("one", (Generation("the", max_tokens=1),))

    def score(self, item, responses):
        return {}

    def summarise(self, values):
        return [Score("zero", 0.0, None, len(values))]


def quiet(config, context):
    return Callback()


def all(config, context):
    return each(lambda document: document)


def zero(config, context):
    return ZeroEvaluator()
'''


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., None]:
    """Installs the plugin ``own`` in another version, with other code, or in another way."""

    def install(version: str = "1.0", *, code: str = "", lies: str = "installed") -> None:
        site = tmp_path / "site"
        shutil.rmtree(site, ignore_errors=True)
        about = site / "engine_own.dist-info"
        files = {
            about / "METADATA": f"Metadata-Version: 2.1\nName: engine-own\nVersion: {version}\n",
            about / "entry_points.txt": "[engine.v1]\nown = engine_own.plugin\n",
            site / "engine_own" / "plugin.py": PLUGIN,
            site / "engine_own" / "parts.py": PARTS + code,
        }
        if lies != "on the path":
            files[about / "RECORD"] = "engine_own/plugin.py,,\n"
        if lies == "editable":
            files[about / "direct_url.json"] = (
                '{"url": "file:///x", "dir_info": {"editable": true}}'
            )
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(site)
        code_of.cache_clear()

    yield install
    code_of.cache_clear()
    for module in [name for name in sys.modules if name.startswith("engine_own")]:
        del sys.modules[module]


@pytest.fixture
def spec(tiny_spec, train):
    """The tiny spec with a callback of the plugin."""
    tiny_spec["plugins"] = ["own"]
    train |= {"callbacks": [{"type": "quiet"}], "evaluate": [], "budget": "2 steps"}
    return tiny_spec


def _skipped(run) -> dict[str, str | None]:
    """What is said of stages that are done."""
    return {event["stage"]: event.get("message") for event in run.events("stage_skipped")}


def test_another_version_of_a_plugin_is_refused_unless_allowed(install, spec, train, run_here):
    """The plugins in use stand in a checkpoint and in the stage's record, built-in ones too."""
    install("1.0")
    folder = RunFolder(run_here(spec).folder)
    ours = {"inference", "lm", "parallel"}
    assert folder.standing("base").plugins == {
        "own": "engine-own 1.0",
        **dict.fromkeys(sorted(ours), folder.standing("base").plugins["lm"]),
    }
    assert folder.standing("base").plugins["lm"].startswith("training-engine ")
    install("2.0")
    train["budget"] = "4 steps"
    with pytest.raises(
        RunError, match=r"written with engine-own 1.0, but engine-own 2.0 is installed.*--allow v"
    ):
        run_here(spec)
    assert run_here(spec, inexact=True).steps("step")[-1] == 4
    assert folder.standing("base").plugins["own"] == "engine-own 2.0"
    train |= {"budget": "5 steps", "callbacks": []}
    assert run_here(spec).steps("step")[-1] == 5, "a plugin that is no longer used does not count"


@pytest.mark.parametrize("lies", ["editable", "on the path"])
def test_a_plugin_of_which_one_version_is_several_codes(install, spec, write_spec, lies):
    """Counts by its code as well; one that is installed from an index by its version."""

    def made_by() -> str:
        loaded = load_spec(write_spec(spec))
        return used_plugins(loaded.spec, "base", loaded.plugins)["own"]

    install()
    assert made_by() == "engine-own 1.0"
    install(lies=lies)
    assert made_by() == f"engine-own 1.0 (code {code_of('engine_own')[:12]})"


def test_an_editable_plugin_is_refused_with_other_code(install, spec, train, run_here):
    """Its version stays while its author edits it."""
    install(lies="editable")
    run_here(spec)
    train["budget"] = "3 steps"
    assert run_here(spec).steps("step")[-1] == 3
    install(lies="editable", code="# edited\n")
    train["budget"] = "4 steps"
    with pytest.raises(RunError, match=r"engine-own 1.0 \(code .{12}\), but engine-own 1.0 \(code"):
        run_here(spec)


def test_a_stage_that_is_done_says_by_which_version(install, spec, run_here, tiny_spec):
    """It stays as it is; the line has the command that makes it anew. Older records say nothing."""
    spec["stages"]["corpus"]["prepare"]["processors"] = [{"type": "all"}]
    scored = {"models": ["base"], "evaluators": [{"type": "zero"}]}
    spec["stages"]["scores"] = {"evaluate": scored}
    install("1.0")
    run = run_here(spec)
    stages = ("corpus", "base", "scores")
    assert _skipped(run_here(spec)) == dict.fromkeys(stages)
    install("2.0")
    said = "made by engine-own 1.0, while engine-own 2.0 is installed; make it anew with --rerun "
    before = len(run.events("stage_started"))
    run_here(spec)
    assert _skipped(run) == {name: said + name for name in stages}
    assert len(run.events("stage_started")) == before
    record = run.folder / "base" / "stage.json"
    older = json.loads(record.read_text(encoding="utf-8"))
    del older["plugins"], older["checksum"]
    record.write_text(json.dumps(older), encoding="utf-8")
    assert _skipped(run_here(spec))["base"] is None


def test_rows_of_an_evaluation_are_not_mixed(install, spec, run_here):
    """A stage that was broken off has rows, which another version would not have written."""
    scored = {"models": ["base"], "evaluators": [{"type": "zero"}]}
    spec["stages"]["scores"] = {"evaluate": scored}
    install("1.0")
    _broken_off(run_here(spec), "scores")
    install("2.0")
    with pytest.raises(
        RunError, match=r"rows were written with engine-own 1.0, but engine-own 2.0"
    ):
        run_here(spec)
    assert run_here(spec, inexact=True).status == 0


def test_records_are_chosen_anew_as_long_as_no_checkpoint_stands_on_them(
    install, tiny_spec, run_here, tmp_path
):
    """Another version of a processor may drop others."""
    spec = with_records(tiny_spec, tmp_path)("text", processors=[{"type": "all"}])
    spec["plugins"] = ["own"]
    install("1.0")
    run = run_here(spec)
    old = run.folder / "tuned" / "records" / "old"
    old.touch()
    install("2.0")
    _broken_off(run, "tuned")
    run_here(spec, inexact=True)
    assert old.exists()
    shutil.rmtree(run.folder / "tuned" / "checkpoints")
    install("3.0")
    _broken_off(run, "tuned")
    run_here(spec)
    assert not old.exists()


def _broken_off(run, stage: str) -> None:
    """Makes a stage that is done one that was killed."""
    folder = RunFolder(run.folder)
    folder.record(stage, replace(folder.standing(stage), status="begun", summary={}))
