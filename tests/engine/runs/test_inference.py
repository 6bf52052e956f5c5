"""A stage is asked by the inference component that its spec names, and scores stay what they are."""

from __future__ import annotations

import json
import sys

import pytest
import yaml

from engine.errors import RunError
from engine.runs.finished_stage import open_stage


@pytest.fixture
def asked(guide, install_here, tiny_spec):
    """A spec that scores a model while it trains and afterwards, by texts as well."""
    install_here({path: text for path, text in guide.items() if path.startswith("engine_example/")})
    evaluators = [{"type": "perplexity"}, {"type": "addition", "limit": 5}]
    tiny_spec["plugins"] = ["example"]
    tiny_spec["stages"]["base"]["train"]["evaluate"] = evaluators
    scores = {"models": ["base"], "data": "corpus", "evaluators": evaluators}
    tiny_spec["stages"]["scores"] = {"evaluate": scores}
    return tiny_spec


def _by_naive(spec, *stages):
    """The spec with the guide's component in these stages."""
    for stage in stages:
        (body,) = spec["stages"][stage].values()
        body["inference"] = {"type": "naive"}
    return spec


@pytest.fixture
def forward_passes(monkeypatch):
    """Gives a counter of the passes that the guide's component makes."""

    def count():
        naive = sys.modules["engine_example.naive"].NaiveLM
        passes, before = [], naive._logits
        monkeypatch.setattr(
            naive, "_logits", lambda self, tokens: passes.append(1) or before(self, tokens)
        )
        return passes

    return count


@pytest.mark.covers("Train.inference", "Evaluate.inference")
@pytest.mark.parametrize("stage", ["base", "scores"])
def test_a_stage_s_inference_answers_its_evaluators(stage, asked, run_here, forward_passes):
    """Only there; scores of log-likelihoods and greedy texts are the same, to float32's rounding."""
    usual = run_here(asked, runs="usual")
    import engine_example.naive  # noqa: F401 - to count what it does

    passes = forward_passes()
    named = run_here(_by_naive(asked, stage), runs="named")
    assert passes
    assert named.steps("loss") == usual.steps("loss")
    scores = [run.events("score") for run in (named, usual)]
    assert {e["stage"] for e in scores[0]} == {"base", "scores"}
    for own, other in zip(*scores, strict=True):
        assert own["value"] == pytest.approx(other["value"], rel=1e-5)
        assert own["stage"] == stage or own["value"] == other["value"]
        assert (own["metric"], own["fingerprint"]) == (other["metric"], other["fingerprint"])
    texts = [_texts(run) for run in (named, usual)]
    assert len(texts[0]) == 5
    assert texts[0] == texts[1]


def _texts(run):
    """What the model wrote in the stage `scores`."""
    (file,) = (run.folder / "scores" / "rows").glob("0-1.*")
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return [response["text"] for row in rows for response in row["responses"]]


def test_another_inference_continues_a_stage(asked, run_here):
    """It is no part of a stage's identity: what is done stays done."""
    run_here(asked)
    again = run_here(_by_naive(asked, "base", "scores"))
    assert [e["stage"] for e in again.events("stage_skipped")] == [
        "corpus",
        "corpus",
        "base",
        "scores",
    ]
    resolved = yaml.safe_load((again.folder / "resolved.yaml").read_text(encoding="utf-8"))
    assert resolved["stages"]["base"]["train"]["inference"] == {"type": "naive"}


def test_a_run_from_before_is_asked_by_the_default(copied):
    """Its resolved spec names no inference."""
    file = copied / "resolved.yaml"
    resolved = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert resolved["stages"]["base"]["train"].pop("inference") == {"type": "shared-prefixes"}
    file.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")
    opened = open_stage(copied / "base")
    assert opened.run.spec.stages["base"].train.inference.type == "shared-prefixes"
    assert opened.language_model().context == 32


def test_a_prepare_stage_asks_no_model(copied):
    """A source or processor that does is told so in a line."""
    run = open_stage(copied / "corpus").run
    with pytest.raises(RunError, match="corpus: a prepare stage has no `inference`"):
        run.context("corpus").language_model(None, None)


def test_a_component_is_built_once_a_stage(asked, run_here, monkeypatch):
    """For all evaluations, since it may take long to start."""
    import engine_example.naive as naive

    built, before = [], naive.build
    monkeypatch.setattr(naive, "build", lambda *given: built.append(1) or before(*given))
    run_here(_by_naive(asked, "base", "scores"))
    assert len(built) == 2
