"""Plugins with mistakes: what is wrong is told, and what may have been meant."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from support.zesty import CONFIG, PLUGIN

from engine.cli.commands import cli
from engine.spec.loading import load_spec


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
def test_a_broken_plugin(install, listed, told, zesty_spec, tiny_spec, write_spec, plugin, cause):
    """Shows as broken; asked for, it is an error with name, distribution and cause."""
    install("zesty", plugin)
    row = listed()["engine-zesty", "zesty"]
    assert (row["version"], row["status"], row["components"]) == ("2.0", "broken", {})
    assert row["error"].startswith(cause)
    assert listed("--check", status=1)["engine-zesty", "zesty"] == row
    zesty_spec["plugins"] = ["zesty"]
    assert f"plugins.0: zesty (engine-zesty 2.0) is broken: {cause}" in told(zesty_spec)[0]
    tiny_spec |= {"plugins": []}
    tiny_spec["stages"]["base"]["train"]["optimizer"] = "adamw"
    load_spec(write_spec(tiny_spec))


@pytest.mark.parametrize(
    ("group", "mend"),
    [("engine.v0", "pip install -U engine-zesty"), ("engine.v2", "pip install -U training-engine")],
)
def test_a_plugin_of_another_version_of_the_interface(
    install, listed, told, zesty_spec, group, mend
):
    """Is named as such, and not as one that is missing; one that has both is of this one."""
    install("zesty", group=group)
    error = f"it was written for {group}, and this engine has engine.v1: {mend}"
    row = listed()["engine-zesty", "zesty"]
    assert (row["status"], row["error"]) == ("broken", error)
    zesty_spec["plugins"] = ["zesty"]
    assert told(zesty_spec)[0].endswith(f"plugins.0: zesty (engine-zesty 2.0) is broken: {error}")
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
def test_what_an_import_path_may_have_meant(install, told, zesty_spec, path, meant):
    """A misspelt module or name is told with the nearest; of a factory as of a configuration."""
    install("zesty", PLUGIN.replace("{module}_config:Own", path))
    zesty_spec["plugins"] = ["zesty"]
    (problem,) = told(zesty_spec)
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
def test_a_plugin_whose_config_cannot_be_loaded(install, listed, told, zesty_spec, config, cause):
    """Looks well until it is checked or used; then name, distribution and cause are told."""
    install("zesty", config=config)
    assert listed()["engine-zesty", "zesty"]["status"] == "ok"
    row = listed("--check", status=1)["engine-zesty", "zesty"]
    assert row["status"] == "broken"
    assert "plugin zesty (engine-zesty 2.0): " in row["error"]
    assert cause in row["error"]
    zesty_spec["plugins"] = ["zesty"]
    (problem,) = told(zesty_spec)
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
