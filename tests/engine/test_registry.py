"""Plugins are found, and whatever is wrong with one is only its own fault."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from support.zesty import PLUGIN

from engine.cli.commands import cli
from engine.errors import PluginError
from engine.registry import Plugins
from engine.spec.loading import load_spec


def test_a_third_party_s_plugin_takes_part_only_where_it_is_named(
    install, zesty_spec, told, write_spec
):
    """Installed and not named, its types are told of with the line to add."""
    known = "unknown type 'zesty'; known: adamw, adamw-8bit, muon"
    at = "stages.base.train.optimizer"
    assert told(zesty_spec)[-1].endswith(f"{at}: {known}")
    install("zesty")
    assert told(zesty_spec)[-1].endswith(
        f"{at}: type 'zesty' comes from the installed plugin 'zesty'; "
        "add it to the spec: `plugins: [zesty]`"
    )
    zesty_spec["plugins"] = ["zesty"]
    loaded = load_spec(write_spec(zesty_spec))
    assert loaded.spec.stages["base"].train.optimizer.zest == 2
    assert [p.name for p in loaded.plugins.plugins if not p.builtin] == ["zesty"]


def test_a_plugin_that_is_not_installed(told, zesty_spec):
    """Told where it is named, with those that there are, beside all other errors."""
    zesty_spec |= {"plugins": ["lm", "zesty"], "seed": -1}
    problems = [problem.partition(": ")[2] for problem in told(zesty_spec)]
    there = ", ".join(sorted(plugin.name for plugin in Plugins.discover().plugins))
    assert (
        f"plugins.1: 'zesty' is not installed; pip install it, or name one of: {there}" in problems
    )
    assert any(problem.startswith("seed: ") for problem in problems)


def test_two_distributions_with_one_plugin_s_name(install, listed, told, zesty_spec):
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
    zesty_spec["plugins"] = ["zesty"]
    problem = told(zesty_spec)[0]
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
    install, listed, told, zesty_spec, write_spec, taken
):
    """Cannot both take part in a run; who uses only one of them has no trouble."""
    install("zesty")
    install("dull", type_=taken)
    owner = {"zesty": "zesty (engine-zesty 2.0)", "adamw": "lm (training-engine 0.1.0)"}[taken]
    clash = f"two plugins declare the optimizer '{taken}': "
    zesty_spec["plugins"] = ["dull", "zesty"]
    (problem,) = told(zesty_spec)
    assert problem.startswith(clash)
    assert owner in problem
    assert "dull (engine-dull 2.0)" in problem
    assert problem.endswith("leave one of them out of `plugins:`")
    row = listed()["engine-dull", "dull"]
    assert row["status"] == "clash"
    assert row["error"].startswith(clash)
    listed("--check", status=1)
    zesty_spec["plugins"] = ["zesty"]
    load_spec(write_spec(zesty_spec))


def test_a_component_that_needs_an_extra(install, told, listed, zesty_spec, write_spec):
    """The command that installs it is told; with the extra there, nothing is."""
    install("zesty", extra="extra='fancy'")
    zesty_spec["plugins"] = ["zesty"]
    assert told(zesty_spec)[0].endswith(
        "stages.base.train.optimizer: 'zesty' needs no-such-thing: pip install 'engine-zesty[fancy]'"
    )
    listed("--check")  # what is not installed is not broken
    install("dull", extra="extra='plain'")
    zesty_spec["plugins"] = ["dull"]
    zesty_spec["stages"]["base"]["train"]["optimizer"]["type"] = "dull"
    load_spec(write_spec(zesty_spec))


def test_a_config_that_cannot_be_imported_without_its_extra(install, told, zesty_spec):
    """The mend is the extra."""
    install("zesty", config="import no_such_thing", extra="extra='fancy'")
    zesty_spec["plugins"] = ["zesty"]
    (problem,) = told(zesty_spec)
    assert problem.endswith("pip install 'engine-zesty[fancy]'")


def test_a_blocked_plugin_is_not_imported(install, told, zesty_spec, tiny_spec, write_spec):
    """Neither where it is named nor where it is only installed; built-in ones may be, too."""
    install("zesty", "raise AssertionError('imported')")
    plugins = {plugin.name: plugin for plugin in Plugins.discover(["zesty"]).plugins}
    assert plugins["zesty"].status == "blocked"
    zesty_spec["plugins"] = ["zesty"]
    problem = told(zesty_spec, blocked=["zesty"])[0]
    assert problem.endswith("plugins.0: zesty (engine-zesty 2.0) is blocked")
    with pytest.raises(PluginError, match="--no-plugin sour: no such plugin; installed: "):
        Plugins.discover(["sour"])
    problems = told(zesty_spec, blocked=["lm"])
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
