"""Models in an evaluate stage have names of their own, under which their scores are shown."""

from __future__ import annotations

import re

import pytest

from engine.cli.summary import print_summary
from engine.spec.loading import load_spec
from engine.storage.run_folder import RunFolder


def test_models_that_scores_could_not_tell_apart(stages, problems, tiny_spec, write_spec):
    """Each has a name, which is no other's, and not that of a stage whose model it is not."""
    again = {"type": "stage", "stage": "base"}
    scores = {"models": ["base", again], "evaluators": ["perplexity"], "data": "corpus"}
    stages["scores"] = {"evaluate": scores}
    twice = (
        "stages.scores.evaluate.models.1: another of the models is called 'base' as well; give one of "
        "them another `name`"
    )
    assert problems() == [twice]
    pinned = [{"type": "pretrained", "path": "some/model", "revision": r * 40} for r in "ab"]
    scores["models"] = pinned
    assert problems() == [twice.replace("'base'", "'some/model'")]
    scores["models"] = ["base", {**again, "name": "corpus"}]
    assert problems() == [
        "stages.scores.evaluate.models.1.name: 'corpus' is the name of a stage, whose model this is "
        "not; choose another"
    ]
    scores |= {"models": ["base", {**again, "name": "again"}], "baseline": "again"}
    load_spec(write_spec(tiny_spec))
    stages["more"] = {"train": {**stages["base"]["train"], "model": {**again, "name": "x"}}}
    assert problems() == ["stages.more.train.model.name: only counts in an evaluate stage"]


@pytest.mark.covers("model/stage.name", "model/pretrained.name")
def test_a_model_has_scores_under_its_name(stages, run_here, tiny_spec, capsys):
    """One stage's model as it is, by another name, and by its folder: a column each; a name may be the
    baseline."""
    run = run_here(tiny_spec)
    folder = {"type": "pretrained", "path": str(run.folder / "base" / "final"), "name": "copy"}
    models = ["base", {"type": "stage", "stage": "base", "name": "again"}, folder]
    scores = {"models": models, "evaluators": ["perplexity"], "data": "corpus", "baseline": "again"}
    stages["scores"] = {"evaluate": scores}
    run = run_here(tiny_spec)
    found = [e for e in run.events("score") if e["stage"] == "scores"]
    assert {e["model"] for e in found} == {"again", "base", "copy"}
    assert len({e["value"] for e in found if e["metric"] == "perplexity"}) == 1
    spec = load_spec(run.folder / "spec.yaml").spec
    print_summary(RunFolder(run.folder), spec, "done")
    shown = capsys.readouterr().out
    assert re.search(r"scores +base +again +copy\n", shown)
