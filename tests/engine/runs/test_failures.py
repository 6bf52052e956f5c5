"""An unexpected error is a line that names the component; the run's folder has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import RunError

_STRANGE = {
    "engine_strange/__init__.py": "",
    "engine_strange/plugin.py": """
from engine import Component, hookimpl

def _component(kind):
    parts = "engine_strange.parts"
    return [Component("strange", f"{parts}:{kind.title()}", f"{parts}:{kind}", "Fails.")]

@hookimpl
def engine_objectives():
    return _component("objective")

@hookimpl
def engine_models():
    return _component("model")

@hookimpl
def engine_callbacks():
    return _component("callback")

@hookimpl
def engine_evaluators():
    return _component("evaluator")

@hookimpl
def engine_schedules():
    return _component("schedule")

@hookimpl
def engine_penalties():
    return _component("penalty")
""",
    "engine_strange/parts.py": """
import json
from engine import Callback as Base, Config, Evaluator as Scorer
from engine import EvaluatorConfig, hookimpl
from engine_lm.config import Llama
from engine_lm.penalties import ZLossPenalty
from engine_lm.training_config import NextToken, ZLoss
from engine_lm.models import build_llama
from engine_lm.next_token import NextTokenObjective

class Objective(NextToken):
    pass

class Model(Llama):
    pass

class Callback(Config):
    pass

class Evaluator(EvaluatorConfig):
    pass

class Schedule(Config):
    pass

class Penalty(ZLoss):
    pass

def failing():
    return json.loads("{")  # line

def objective(config, context):
    class Strange(NextTokenObjective):
        def loss(self, *args):
            failing()
    return Strange()

def model(config, context):
    made = build_llama(config, context)
    class Strange(type(made.model)):
        def forward(self, *args, **kwargs):
            return failing() if self.training else super().forward(*args, **kwargs)
    made.model.__class__ = Strange
    return made

def callback(config, context):
    class Strange(Base):
        def step_finished(self, event):
            failing()
    return Strange()

def evaluator(config, context):
    class Strange(Scorer):
        def items(self):
            yield failing()
        def score(self, item, responses):
            return {}
        def summarise(self, rows):
            return []
    return Strange()

def schedule(config, context):
    failing()

def penalty(config, context):
    class Strange(ZLossPenalty):
        def update(self, sums):
            failing()
    return Strange()
""",
}
_LINE = next(
    number
    for number, line in enumerate(_STRANGE["engine_strange/parts.py"].split("\n"), 1)
    if "# line" in line
)


@pytest.mark.parametrize(
    ("kind", "method", "changed"),
    [
        ("objective", "loss", {"objective": {"type": "strange"}}),
        ("model", "forward", {}),
        ("callback", "step_finished", {"callbacks": ["strange"]}),
        ("evaluator", "items", {"evaluate": [{"type": "strange", "every": "2 steps"}]}),
        ("schedule", "schedule", {"optimizer": {"type": "adamw", "schedule": "strange"}}),
        ("penalty", "update", {"penalties": ["strange"]}),
    ],
)
def test_the_component_its_method_and_the_line_are_named(
    kind, method, changed, tiny_spec, install_here, run_here
):
    """The line of the author's code, not of the library that it calls."""
    install_here(_STRANGE)
    tiny_spec["plugins"] = ["strange"]
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"budget": "2 steps", "evaluate": [], **changed}
    if kind == "model":
        train["model"]["type"] = "strange"
    with pytest.raises(RunError) as told:
        run_here(tiny_spec)
    message, hint = told.value.what, told.value.hint
    assert message.startswith(f"{kind} 'strange' (engine-strange 1.0) failed in {method}: JSONDec")
    assert message.endswith(f" (parts.py:{_LINE})")
    assert "\n" not in message
    file = hint.removesuffix(" has the whole traceback")
    text = Path(file).read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in text
    assert "json/decoder.py" in text


def test_what_no_component_is_to_blame_for_is_a_line_too(tiny_spec, run_here, monkeypatch):
    """With where it happened, for a report."""

    def broken(*_):
        raise ZeroDivisionError("nought")

    monkeypatch.setattr("engine.runs.train_stage.open_inputs", broken)
    with pytest.raises(
        RunError, match=r"^the engine failed: ZeroDivisionError: nought \(test_fail"
    ):
        run_here(tiny_spec)
