"""A run whose plugin has gone: it is whole, and what needs the plugin says which and how to get it."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from engine.spec.loading import load_resolved, load_spec, resolved_yaml

TOLD = "plugin example (engine-example 1.0) is not installed: pip install 'engine-example==1.0'"
OWN = {
    "optimizer": {"type": "adafactor", "lr": 1e-2, "schedule": {"type": "linear"}},
    "strategy": {"type": "plain"},
    "callbacks": [{"type": "good-enough"}],
    "precision": "fp32",
    "budget": "2 steps",
}


@pytest.fixture
def uninstall(tmp_path, monkeypatch):
    """Takes the guide's plugin away again."""

    def uninstall() -> None:
        site = str(tmp_path / "site")
        monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != site])
        for module in [name for name in sys.modules if name.split(".")[0] == "engine_example"]:
            del sys.modules[module]

    return uninstall


@pytest.fixture
def spec(tiny_spec):
    """A model of the engine's own, trained by components of a plugin, and one on a plugin's data."""
    base = tiny_spec["stages"]["base"]["train"]
    base |= OWN | {"evaluate": [{"type": "addition", "limit": 1}]}
    sums = {"data": {"type": "sums"}, "model": "base", "objective": {"type": "answers"}}
    tiny_spec["stages"]["sums"] = {"train": sums | OWN | {"batch": {"examples": 2}}}
    return {"plugins": ["example"], **tiny_spec}


def test_a_run_without_its_plugin(spoil, uninstall, spec, run_here, command, tmp_path):
    """`runs` shows the stages and says what is missing; what needs no plugin goes on as before."""
    spoil()
    folder = run_here(spec).folder
    before = json.loads(command("runs", "--runs", folder.parent, "--json")[0])
    uninstall()
    rows = json.loads(command("runs", "--runs", folder.parent, "--json")[0])
    assert (before[0]["needs"], rows) == ([], [before[0] | {"needs": [TOLD]}])
    out, _ = command("runs", "--runs", folder.parent)
    assert [line.split()[:2] for line in out.splitlines()[1:4]] == [
        ["tiny", "corpus"],
        ["base", "done"],
        ["sums", "done"],
    ]
    assert out.splitlines()[4] == f"tiny: {TOLD}"
    base, sums = folder / "base", folder / "sums"
    assert json.loads(command("generate", base, "--prompt", "the", "--json")[0])["tokens"]
    assert json.loads(command("data", base, "--samples", 1, "--json")[0])["tokens"]
    for stage in (base, sums):
        command("export", stage, tmp_path / "out" / stage.name)
    _, err = command("data", sums, status=2)
    assert err == f"the objective 'answers' cannot be used: {TOLD}\n"
    (folder / "manifest.json").unlink()
    assert command("runs", "--runs", folder.parent)[0].splitlines()[4] == (
        "tiny: plugin example is not installed"
    )


def test_a_missing_plugin_is_one_error(spoil, uninstall, spec, told, write_spec):
    """In place of one for each field that names a component of it; other errors are told as well."""
    spec["stages"]["base"]["train"]["seeds"] = 1
    missing, other = told(spec)
    assert "plugins.0: 'example' is not installed; pip install it, or name one of: " in missing
    assert other.endswith("stages.base.train.seeds: unknown field")
    del spec["stages"]["base"]["train"]["seeds"]
    spoil()
    assert len(told(spec, blocked=["example"])) == 1
    load_spec(write_spec(spec))
    spec["plugins"] = []
    assert len(told(spec)) > 3, "each names the plugin that its component comes from"


def test_a_run_opens_without_components_of_any_kind(guide, spoil, uninstall, tmp_path):
    """Each stands in the spec with its fields; what the spec asks of the kind has its default."""
    named = 'name: str | None = Field(None, description="Name.")'
    layers = 'layers: Count = Field(2, description="Layers.")'
    spoil((layers, f"{layers}\n    {named}"))
    spec = yaml.safe_load(guide["example.yaml"])
    own = [{"type": "small-gpt", "name": "thin"}, {"type": "small-gpt", "name": "thick"}]
    spec["stages"]["scores"] = {
        "evaluate": {"models": own, "evaluators": [{"type": "addition"}], "baseline": "thin"}
    }
    spec["stages"]["base"]["train"]["model"]["width"] = 16
    file = tmp_path / "example.yaml"
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(resolved_yaml(load_spec(file)), encoding="utf-8")
    whole = load_resolved(resolved)
    uninstall()
    opened = load_resolved(resolved)
    assert opened.spec.order == whole.spec.order
    assert opened.absent == ("plugin example is not installed",)
    width = opened.spec.stages["base"].train.model.model_extra["width"]
    assert width == whole.spec.stages["base"].train.model.width == 16


def test_a_broken_plugin_of_a_run(spoil, uninstall, spec, run_here, command, monkeypatch, tmp_path):
    """Is said to be broken, and why."""
    spoil()
    del spec["stages"]["sums"]
    folder = run_here(spec).folder
    uninstall()
    monkeypatch.syspath_prepend(tmp_path)  # another path, for which plugins are looked for again
    spoil(("import Architecture, Component, Problem, hookimpl", "import no_such_name"))
    (row,) = json.loads(command("runs", "--runs", folder.parent, "--json")[0])
    assert row["stages"]["base"]["status"] == "done"
    (need,) = row["needs"]
    assert need.startswith("plugin example (engine-example 1.0) is broken: ImportError: ")
