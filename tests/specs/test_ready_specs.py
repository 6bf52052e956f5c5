"""Every ready spec runs, at a size that takes seconds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.golden import events

from engine.spec.loading import load_spec

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.yaml"))

POST_TRAINING = {"pipeline", "rlhf", "rlhf-trl", "sums"}
"""Other stages than these changes make tiny: see test_rlhf.py and test_sums.py."""

TINY = {
    # The help topics alone: the same reader, a tenth of the text.
    "stages.corpus.prepare.sources": "[{type: python-library, parts: [topics]}]",
    "stages.corpus.prepare.tokenizer.vocab_size": 512,
    "stages.base.train.model.hidden_size": 32,
    "stages.base.train.model.layers": 2,
    "stages.base.train.model.heads": 2,
    "stages.base.train.model.context": 64,
    "stages.base.train.batch.tokens": 1024,
    "stages.base.train.budget": "4 steps",
}
MORE = {"ladder": {"stages.corpus.prepare.holdout": "5%"}}
"""Changes of single specs: of a tenth of the text, half a percent may be no document."""


@pytest.mark.parametrize(
    "spec", [s for s in SPECS if s.stem not in POST_TRAINING], ids=lambda p: p.stem
)
def test_a_ready_spec_runs(spec, engine, golden, tmp_path):
    """From its sources to a model that the summary tells how to talk to."""
    changes = TINY | MORE.get(spec.stem, {})
    smaller = [part for field, value in changes.items() for part in ("--set", f"{field}={value}")]
    told = engine("run", spec, "--runs", tmp_path, *smaller, env={"COLUMNS": "80"}).stdout
    assert "gzip -9, the same text" in told
    golden.check(
        f"specs/{spec.stem}", events(next(tmp_path.glob("*/events.jsonl")).parent), values=False
    )
    _, talk = told.rsplit("talk     engine ", 1)
    *command, prompt = shlex.split(talk.splitlines()[0])
    assert engine(*command, prompt).stdout.startswith(prompt)


def test_the_readme_lists_every_spec():
    """And only those."""
    readme = (SPECS[0].parent / "README.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in readme.splitlines() if line.startswith("| [`")]
    assert sorted(rows) == [p.name for p in SPECS]


def front_page() -> str:
    """The README's spec with the stages that it goes on with."""
    text = (SPECS[0].parents[1] / "README.md").read_text(encoding="utf-8")
    return "".join(re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", [*(s.stem for s in SPECS), "README"])
def test_no_model_has_read_what_a_later_stage_holds_out(name, tmp_path):
    """Records are held out by a hash of what they come from: a larger share holds the smaller one."""
    file = SPECS[0].parent / f"{name}.yaml"
    if name == "README":
        (tmp_path / "notes").mkdir()
        file = tmp_path / "README.yaml"
        file.write_text(front_page(), encoding="utf-8")
    spec = load_spec(file).spec

    def held_out(stage: str) -> float:
        body = spec.stages[stage].body
        prepared = getattr(getattr(body, "data", None), "stage", None)
        return held_out(prepared) if prepared else body.holdout

    for stage in spec.order:
        train = spec.stages[stage].train
        base = getattr(train and train.model, "stage", None)
        if base:
            assert held_out(base) >= held_out(stage), f"{stage} scores on what {base} has read"
