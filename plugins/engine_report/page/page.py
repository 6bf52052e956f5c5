"""The page: one file of HTML that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from engine import RunHistory, cleaned
from engine_report.page.charts import colours, script, templates
from engine_report.page.content import content_of
from engine_report.page.curves import rounded
from engine_report.page.figures import RunFigures

_ASSETS = resources.files("engine_report.page") / "assets"


def page(histories: Sequence[RunHistory], runs: Sequence[RunFigures]) -> str:
    """The page of these runs, whose figures are ``runs``; whatever comes from them is escaped."""
    content = content_of(histories, runs)
    data = {
        "runs": [_for_script(run) for run in runs],
        "charts": [{**asdict(chart), "axis": chart.axis} for chart in content.charts],
        "templates": templates(len(runs)),
    }
    own, style = (_asset(name) for name in ("page.js", "page.css"))
    sources = " ".join(map(_hash, (script(), own)))
    environment = jinja2.Environment(
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else cleaned(str(value)),
        loader=jinja2.FunctionLoader(_asset),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("page.html").render(
        content=content,
        colours=colours(len(runs)),
        data=Markup(_json(data)),
        library=Markup(script()),
        own=Markup(own),
        style=Markup(style),
        sources=sources,
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A script's hash as a content security policy names it."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json(data: Any) -> str:
    """JSON that is safe within a script element: it has no ``<``, ``>`` and ``&``."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _for_script(run: RunFigures) -> dict[str, Any]:
    """What the script needs of a run."""
    stages = {
        name: {
            "curves": asdict(rounded(stage.curves)),
            "notFinite": stage.not_finite,
            "marks": [["skipped", step] for step in stage.skipped]
            + [["rolled back", step] for step, _ in stage.rolled_back],
        }
        for name, stage in run.stages.items()
        if stage.curves.step
    }
    scores = [
        [one.stage, f"{one.evaluator}/{one.metric}", one.step, one.value, one.low, one.high]
        for one in run.scores
        if one.step is not None
    ]
    return {"label": run.label, "stages": stages, "scores": scores}
