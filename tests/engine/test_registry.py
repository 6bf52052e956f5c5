"""Plugins are found, and whatever is wrong with one is only its own fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli.commands import cli
from engine.errors import PluginError
from engine.registry import Plugins
from engine.spec.loading import load_spec

PLUGIN = """
from engine import Component, hookimpl


@hookimpl
def engine_optimizers():
    return [Component("{type}", "{module}_config:Own", "{module}_config:build", "Its own.", {extra})]
"""
CONFIG = """
from engine import Number, OptimizerConfig
from pydantic import Field


class Own(OptimizerConfig):
    \"\"\"Its own.\"\"\"

    zest: Number = Field(1.0, description="Zest.")


def build(config, context):
    raise AssertionError("nobody trains here")
"""


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Puts a distribution with one plugin into a folder on the path, and gives its module's file."""
    modules = []

    def install(
        name: str,
        plugin: str = PLUGIN,
        *,
        config: str = CONFIG,
        distribution: str | None = None,
        type_: str | None = None,
        extra: str = "",
        group: str = "engine.v1",
    ) -> Path:
        distribution = distribution or f"engine-{name}"
        module = distribution.replace("-", "_")
        site = tmp_path / "site" / distribution
        described = site / f"{module}-2.0.dist-info"
        described.mkdir(parents=True)
        (described / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.0\nProvides-Extra: fancy\n"
            "Requires-Dist: no-such-thing>=1; extra == 'fancy'\n"
            "Requires-Dist: pydantic; extra == 'plain'\n"
        )
        (described / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
        words = {"type": type_ or name, "module": module, "extra": extra}
        for key, word in words.items():
            plugin = plugin.replace("{" + key + "}", word)
        (site / f"{module}.py").write_text(plugin)
        (site / f"{module}_config.py").write_text(config)
        monkeypatch.syspath_prepend(site)
        modules.extend([module, f"{module}_config"])
        return site / f"{module}.py"

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def spec(tiny_spec):
    """The tiny spec with an optimizer that no built-in plugin has."""
    tiny_spec["stages"]["base"]["train"]["optimizer"] = {"type": "zesty", "zest": 2}
    return {"plugins": [], **tiny_spec}


@pytest.fixture
def listed():
    """What `engine plugins --json` says, by plugin."""

    def listed(*options: str, status: int = 0):
        done = CliRunner().invoke(cli, ["plugins", "--json", *options], standalone_mode=False)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert (done.return_value or 0) == status
        return {(row["distribution"], row["name"]): row for row in json.loads(done.output)}

    return listed


def test_a_third_party_s_plugin_takes_part_only_where_it_is_named(install, spec, told, write_spec):
    """Installed and not named, its types are told of with the line to add."""
    known = "unknown type 'zesty'; known: adamw, adamw-8bit, muon"
    at = "stages.base.train.optimizer"
    assert told(spec)[-1].endswith(f"{at}: {known}")
    install("zesty")
    assert told(spec)[-1].endswith(
        f"{at}: type 'zesty' comes from the installed plugin 'zesty'; "
        "add it to the spec: `plugins: [zesty]`"
    )
    spec["plugins"] = ["zesty"]
    loaded = load_spec(write_spec(spec))
    assert loaded.spec.stages["base"].train.optimizer.zest == 2
    assert [p.name for p in loaded.plugins.plugins if not p.builtin] == ["zesty"]


def test_a_plugin_that_is_not_installed(told, spec):
    """Told where it is named, with those that there are, beside all other errors."""
    spec |= {"plugins": ["lm", "zesty"], "seed": -1}
    problems = [problem.partition(": ")[2] for problem in told(spec)]
    there = ", ".join(sorted(plugin.name for plugin in Plugins.discover().plugins))
    assert (
        f"plugins.1: 'zesty' is not installed; pip install it, or name one of: {there}" in problems
    )
    assert any(problem.startswith("seed: ") for problem in problems)


@pytest.mark.parametrize(
    ("plugin", "cause"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def x(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (PLUGIN.replace("engine_optimizers", "engine_optimisers"),
         "PluginValidationError: unknown hook 'engine_optimisers'; did you mean 'engine_optimizers'?"),
        ("from engine import hookimpl\n@hookimpl\ndef engine_check(spec, sitation): ...",
         "PluginValidationError: engine_check(spec, situation) has no argument 'sitation'; did you "
         "mean 'situation'?"),
        (PLUGIN.replace("return [", "return [1/0, "), "ZeroDivisionError: division by zero"),
        (PLUGIN.replace("return [", "return ['zesty', "),
         "TypeError: engine_optimizers returned 'zesty'"),
        (PLUGIN.replace("engine_optimizers", "engine_commands"), "TypeError: engine_commands returned"),
        (PLUGIN.replace("return [", "return 7 #"), "TypeError: 'int' object is not iterable"),
    ],
)  # fmt: skip
def test_a_broken_plugin(install, listed, told, spec, tiny_spec, write_spec, plugin, cause):
    """Shows as broken; asked for, it is an error with name, distribution and cause."""
    install("zesty", plugin)
    row = listed()["engine-zesty", "zesty"]
    assert (row["version"], row["status"], row["components"]) == ("2.0", "broken", {})
    assert row["error"].startswith(cause)
    assert listed("--check", status=1)["engine-zesty", "zesty"] == row
    spec["plugins"] = ["zesty"]
    assert f"plugins.0: zesty (engine-zesty 2.0) is broken: {cause}" in told(spec)[0]
    tiny_spec |= {"plugins": []}
    tiny_spec["stages"]["base"]["train"]["optimizer"] = "adamw"
    load_spec(write_spec(tiny_spec))


@pytest.mark.parametrize(
    ("group", "mend"),
    [("engine.v0", "pip install -U engine-zesty"), ("engine.v2", "pip install -U training-engine")],
)
def test_a_plugin_of_another_version_of_the_interface(install, listed, told, spec, group, mend):
    """Is named as such, and not as one that is missing; one that has both is of this one."""
    install("zesty", group=group)
    error = f"it was written for {group}, and this engine has engine.v1: {mend}"
    row = listed()["engine-zesty", "zesty"]
    assert (row["status"], row["error"]) == ("broken", error)
    spec["plugins"] = ["zesty"]
    assert told(spec)[0].endswith(f"plugins.0: zesty (engine-zesty 2.0) is broken: {error}")
    install("dull", group=f"{group}]\ndull = nowhere\n[engine.v1")
    assert listed()["engine-dull", "dull"]["status"] == "ok"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("engine_zesty_config:Owm", "has no attribute 'Owm'; did you mean 'Own'?"),
        ("engine_zesty_config.Own", "; a path is written as 'module:name'"),
        (
            "engine.contracts.hoks:x",
            "No module named 'engine.contracts.hoks'; did you mean 'hooks'?",
        ),
    ],
)
def test_what_an_import_path_may_have_meant(install, told, spec, path, meant):
    """A misspelt module or name is told with the nearest; of a factory as of a configuration."""
    install("zesty", PLUGIN.replace("{module}_config:Own", path))
    spec["plugins"] = ["zesty"]
    (problem,) = told(spec)
    assert meant in problem
    assert f"cannot be loaded from {path}: " in problem


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise OSError('gone')", "OSError: gone"),
        ("x = 1", "AttributeError: module 'engine_zesty_config' has no attribute 'Own'"),
        ("Own = int", "engine_zesty_config:Own is not a Config"),
    ],
)
def test_a_plugin_whose_config_cannot_be_loaded(install, listed, told, spec, config, cause):
    """Looks well until it is checked or used; then name, distribution and cause are told."""
    install("zesty", config=config)
    assert listed()["engine-zesty", "zesty"]["status"] == "ok"
    row = listed("--check", status=1)["engine-zesty", "zesty"]
    assert row["status"] == "broken"
    assert "plugin zesty (engine-zesty 2.0): " in row["error"]
    assert cause in row["error"]
    spec["plugins"] = ["zesty"]
    (problem,) = told(spec)
    assert "plugin zesty (engine-zesty 2.0): " in problem
    assert cause in problem
    schema = CliRunner().invoke(cli, ["schema"])
    assert "llama" in json.loads(schema.stdout)["$defs"]["Llama"]["properties"]["type"]["const"]
    assert schema.stderr.startswith("left out: zesty: plugin zesty (engine-zesty 2.0)")


def test_a_factory_that_cannot_be_loaded_is_found_by_a_check(install, listed):
    """And one that cannot be called, before a run comes to it."""
    install("zesty", config=CONFIG.replace("def build", "def buld"))
    row = listed("--check", status=1)["engine-zesty", "zesty"]
    assert "'zesty' cannot be loaded from engine_zesty_config:build: AttributeError" in row["error"]
    assert "; did you mean 'buld'?" in row["error"]
    install("dull", config=CONFIG.partition("def build")[0] + "build = 3\n")
    row = listed("--check", status=1)["engine-dull", "dull"]
    assert "engine_dull_config:build is not callable" in row["error"]


def test_a_check_finds_what_the_kit_finds_and_blames_nobody_else(install, listed):
    """A hook without its mark and a field without description; a broken reward, which built-in
    objectives may contain, is only its own plugin's."""
    install("zesty", PLUGIN + "\n\ndef engine_run_finished(): ...\n",
            config=CONFIG.replace(', description="Zest."', ""))  # fmt: skip
    install("dull", PLUGIN.replace("engine_optimizers", "engine_rewards"), config="x = 1")
    install("lm", distribution="zesty-lm")
    rows = listed("--check", status=1)
    assert rows["engine-zesty", "zesty"]["error"].splitlines() == [
        "engine_run_finished lacks @hookimpl, so it is never called",
        "optimizer 'zesty': Own.zest has no description",
    ]
    assert rows["engine-dull", "dull"]["status"] == "broken"
    ours = {row["status"] for (owner, _), row in rows.items() if owner == "training-engine"}
    assert ours == {"ok"}
    schema = json.loads(CliRunner().invoke(cli, ["schema"]).stdout)
    assert "ppo" in json.dumps(schema), "a plugin cannot take another out of the schema"


def test_two_distributions_with_one_plugin_s_name(install, listed, told, spec):
    """Neither takes part, and both are named; the list still lists all."""
    install("zesty")
    install("zesty", distribution="zesty-fork")
    both = "several plugins have this name, of "
    rows = listed()
    for distribution in ("engine-zesty", "zesty-fork"):
        row = rows[distribution, "zesty"]
        assert row["status"] == "broken"
        assert row["error"].startswith(both)
        assert {"engine-zesty", "zesty-fork"} <= set(row["error"].replace(";", "").split())
    assert rows["training-engine", "lm"]["status"] == "ok"
    spec["plugins"] = ["zesty"]
    problem = told(spec)[0]
    assert "is broken: " + both in problem
    assert "engine-zesty" in problem
    assert "zesty-fork" in problem


def test_a_third_party_cannot_take_a_built_in_s_name(install, listed, told, tiny_spec, write_spec):
    """The built-in one goes on working; asking for it by name is an error."""
    install("lm", distribution="zesty-lm", type_="zesty")
    rows = listed()
    assert rows["training-engine", "lm"]["status"] == "ok"
    assert rows["zesty-lm", "lm"]["status"] == "broken"
    load_spec(write_spec(tiny_spec))
    tiny_spec["plugins"] = ["lm"]
    assert "training-engine" in told(tiny_spec)[0]


@pytest.mark.parametrize("taken", ["zesty", "adamw"])
def test_two_plugins_that_declare_the_same_component(
    install, listed, told, spec, write_spec, taken
):
    """Cannot both take part in a run; who uses only one of them has no trouble."""
    install("zesty")
    install("dull", type_=taken)
    owner = {"zesty": "zesty (engine-zesty 2.0)", "adamw": "lm (training-engine 0.1.0)"}[taken]
    clash = f"two plugins declare the optimizer '{taken}': "
    spec["plugins"] = ["dull", "zesty"]
    (problem,) = told(spec)
    assert problem.startswith(clash)
    assert owner in problem
    assert "dull (engine-dull 2.0)" in problem
    assert problem.endswith("leave one of them out of `plugins:`")
    row = listed()["engine-dull", "dull"]
    assert row["status"] == "clash"
    assert row["error"].startswith(clash)
    listed("--check", status=1)
    spec["plugins"] = ["zesty"]
    load_spec(write_spec(spec))


def test_a_component_that_needs_an_extra(install, told, listed, spec, write_spec):
    """The command that installs it is told; with the extra there, nothing is."""
    install("zesty", extra="extra='fancy'")
    spec["plugins"] = ["zesty"]
    assert told(spec)[0].endswith(
        "stages.base.train.optimizer: 'zesty' needs no-such-thing: pip install 'engine-zesty[fancy]'"
    )
    listed("--check")  # what is not installed is not broken
    install("dull", extra="extra='plain'")
    spec["plugins"] = ["dull"]
    spec["stages"]["base"]["train"]["optimizer"]["type"] = "dull"
    load_spec(write_spec(spec))


def test_a_config_that_cannot_be_imported_without_its_extra(install, told, spec):
    """The mend is the extra."""
    install("zesty", config="import no_such_thing", extra="extra='fancy'")
    spec["plugins"] = ["zesty"]
    (problem,) = told(spec)
    assert problem.endswith("pip install 'engine-zesty[fancy]'")


def test_a_blocked_plugin_is_not_imported(install, told, spec, tiny_spec, write_spec):
    """Neither where it is named nor where it is only installed; built-in ones may be, too."""
    install("zesty", "raise AssertionError('imported')")
    plugins = {plugin.name: plugin for plugin in Plugins.discover(["zesty"]).plugins}
    assert plugins["zesty"].status == "blocked"
    spec["plugins"] = ["zesty"]
    problem = told(spec, blocked=["zesty"])[0]
    assert problem.endswith("plugins.0: zesty (engine-zesty 2.0) is blocked")
    with pytest.raises(PluginError, match="--no-plugin sour: no such plugin; installed: "):
        Plugins.discover(["sour"])
    problems = told(spec, blocked=["lm"])
    assert any(
        "unknown type 'llama'" in p or "no installed plugin provides a model" in p for p in problems
    )


def test_commands_of_a_plugin_cannot_hide_the_engine_s(install):
    """A plugin named like a command of the engine's or of a built-in plugin's has no group."""
    command = PLUGIN.replace("engine_optimizers", "engine_commands").replace(
        "return [", "import click\n    return [click.Command('x')] #"
    )
    for name in ("run", "chat", "zesty"):
        install(name, command)
    engine = CliRunner()
    assert engine.invoke(cli, ["--help"]).output.count("  run ") == 1
    assert "Runs the stages of SPEC" in engine.invoke(cli, ["run", "--help"]).output
    assert "Talks with the model" in engine.invoke(cli, ["chat", "--help"]).output
    assert engine.invoke(cli, ["zesty", "x"]).exit_code == 0


def test_help_looks_for_plugins_once(monkeypatch):
    """Not once for each command that it lists: that took longer than all else."""
    discover, asked = Plugins.discover, []

    def noted(*given):
        asked.append(given)
        return discover(*given)

    monkeypatch.setattr(Plugins, "discover", noted)
    assert "chat" in CliRunner().invoke(cli, ["--help"]).output
    assert len(asked) == 1


def test_built_in_plugins_place_commands_under_different_names():
    """None hides another's, or one of the engine's own."""
    placed = [name for p in Plugins.discover().plugins if p.builtin for name in p.placed_commands()]
    own = [*cli.commands, *placed]
    assert sorted(own) == sorted(set(own))
    assert {"chat", "evals", "rlhf"} <= set(placed)
