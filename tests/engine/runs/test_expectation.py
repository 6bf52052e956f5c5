"""What plugins expect a train stage to need is in the log before the stage begins."""

from __future__ import annotations

import pytest

FORESEEING = """
import signal

from engine import hookimpl

@hookimpl
def engine_expectation(spec, stage, situation):
    return {"seconds": 7, "stage": stage, "processes": situation.processes}

@hookimpl
def engine_step_finished(event):
    if event["step"] == 2:
        signal.raise_signal(signal.SIGTERM)
"""
CLUMSY = """
from engine import hookimpl

@hookimpl
def engine_expectation():
    raise OSError("disk full")
"""


@pytest.mark.covers("engine_expectation")
def test_what_a_plugin_expects_is_logged_once(tiny_spec, install_here, run_here):
    """Before the first step of a train stage; not as it is resumed, again as it gets a new budget."""
    install_here({"engine_foreseeing/plugin.py": FORESEEING})
    tiny_spec["plugins"] = ["foreseeing"]
    run = run_here(tiny_spec)
    assert run.status == 1  # stopped at step 2
    plans = [e for e in run.events("plan") if "processes" in e["expected"]]
    assert [(e["stage"], e["expected"]) for e in plans] == [
        ("base", {"seconds": 7, "stage": "base", "processes": 1})
    ]
    kinds = [event["event"] for event in run.events(stage="base")]
    assert kinds.index("stage_started") < kinds.index("plan") < kinds.index("step")
    told = len(run.events("plan"))
    resumed = run_here(tiny_spec)
    assert (resumed.status, len(resumed.events("plan"))) == (0, told)
    longer = run_here(tiny_spec, overrides=["stages.base.train.budget=8 steps"])
    assert (longer.steps("step")[-1], len(longer.events("plan"))) == (8, 2 * told)


def test_an_error_in_it_is_logged_and_the_run_goes_on(tiny_spec, install_here, run_here):
    """Under the plugin's name, beside what others expect."""
    install_here({"engine_clumsy/plugin.py": CLUMSY})
    tiny_spec["plugins"] = ["clumsy"]
    run = run_here(tiny_spec)
    assert run.status == 0
    (warning,) = run.events("warning")
    assert warning["message"].startswith("plugin 'clumsy' failed in engine_expectation: OSError")
