"""Plugins may refuse a run before it starts, and users who know better may start it all the same."""

from __future__ import annotations

import pytest

from engine import RunError, SpecError
from engine.runs.precheck import check_run
from engine.spec.loading import load_spec

CAREFUL = """
from engine import Problem, hookimpl

@hookimpl
def engine_permissions():
    return {"tuesdays": "what goes wrong on Tuesdays"}

@hookimpl
def engine_check(spec, situation):
    told = f"{spec.name}: {situation.processes} processes, {situation.local_processes} here, "
    told += " and ".join(situation.stages)
    strategies = situation.configs("strategy")
    assert strategies["single"].model_validate({"type": "single"}).layout(1).ranks == 1
    return [Problem(told, "wait for Wednesday", "tuesdays"), Problem("always wrong", "do not")]

@hookimpl
def engine_out_of_memory(spec, stage, situation):
    return f"{stage} is large"
"""


@pytest.fixture
def careful(tiny_spec, write_spec, install_here):
    """The tiny spec with a plugin that refuses it, loaded with words of ``--allow``."""
    install_here({"engine_careful/plugin.py": CAREFUL})
    tiny_spec["plugins"] = ["careful"]

    def load(*words):
        return load_spec(write_spec(tiny_spec), allow=words)

    return load


@pytest.mark.covers("engine_check", "engine_permissions")
def test_a_plugin_refuses_a_run(careful, tmp_path):
    """Every problem is told at once, each hint once; what is waived is left out."""
    with pytest.raises(SpecError) as told:
        check_run(careful(), tmp_path, 4, 2)
    assert told.value.problems == ("tiny: 4 processes, 2 here, corpus and base", "always wrong")
    assert told.value.hint == "wait for Wednesday; do not"
    with pytest.raises(SpecError) as told:
        check_run(careful("tuesdays"), tmp_path, 4, 2)
    assert told.value.problems == ("always wrong",)
    with pytest.raises(SpecError, match="2 here, base\n"):
        check_run(careful(), tmp_path, 4, 2, only="base")


def test_words_that_no_plugin_declares_are_refused(careful, tiny_spec, write_spec):
    """The message names those that are there."""
    expected = r"'mondays' is not one of versions\|memory\|tuesdays\|code"
    with pytest.raises(SpecError, match=expected):
        careful("mondays")


@pytest.mark.covers("engine_out_of_memory")
def test_a_plugin_says_what_it_knows_of_a_stage_out_of_memory(
    careful, tiny_spec, run_here, monkeypatch
):
    """Beside what the others say."""
    import torch
    from engine_parallel.replicated import Replicated

    def allocate(*_):
        return torch.empty(1 << 60)

    monkeypatch.setattr(Replicated, "forward_backward", allocate)
    with pytest.raises(RunError, match="; base is large; "):
        run_here(tiny_spec)


@pytest.mark.parametrize(
    ("kind", "plain"),
    [("objective", "Objective"), ("callback", "Callback")],
)
def test_what_a_factory_returns_has_the_base_of_its_kind(
    kind, plain, tiny_spec, run_here, install_here
):
    """A plugin that was written before the bases is told what to change."""
    hook = f"engine_{kind}s"
    install_here(
        {
            "engine_plain/plugin.py": f"""
from engine import Component, hookimpl

@hookimpl
def {hook}():
    return [Component("plain", "engine_plain.parts:Plain", "engine_plain.parts:build", "Plain.")]
""",
            "engine_plain/parts.py": """
from engine import Config, ObjectiveConfig

class Plain(ObjectiveConfig):
    pass

class Own:
    pass

def build(config, context):
    return Own()
""",
        }
    )
    tiny_spec["plugins"] = ["plain"]
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"objective": "plain"} if kind == "objective" else {"callbacks": ["plain"]}
    with pytest.raises(
        Exception,
        match=f"'plain' is a Own, which is not an engine.{plain}; let Own subclass engine.{plain}",
    ):
        run_here(tiny_spec)
