"""Toxicity: the scorer of the evaluator `safety`, over documents."""

from __future__ import annotations

import sys

import pytest
from engine_corpus.judge.scores.config import Toxicity
from engine_corpus.judge.scores.toxicity import build, toxicities
from engine_evals.safety.profanity import profanity

from engine import RunError, Text
from engine.testing import processed

RUDE = "You stupid fucking idiot, go to hell, bitch."


def test_scores_equal_those_of_the_evaluations(topics):
    """To the last bit, although many texts are scored at once."""
    texts = [RUDE, "", *(text[:2000] for text in topics[:20])]
    assert toxicities(texts).tolist() == [profanity(text) for text in texts]


@pytest.mark.covers("processor/toxicity.threshold", "processor/toxicity.drop")
def test_profane_documents_are_dropped_above_the_threshold(scored, topics):
    """By the rule `toxic`; with `drop: false` they are only annotated."""
    texts = [topics[0], RUDE]
    rows = scored("toxicity", texts)
    assert [row["drop"] for row in rows] == [None, "toxic"]
    assert [row["toxicity"] for row in rows] == [profanity(text) for text in texts]
    strict = scored("toxicity", texts, threshold=0)
    assert [row["drop"] for row in strict] == ["toxic", "toxic"]
    exact = scored("toxicity", texts, threshold=profanity(RUDE))
    assert [row["drop"] for row in exact] == [None, None]
    assert "drop" not in scored("toxicity", texts, drop=False)[0]
    record = Text(id="1", source="s", text=RUDE)
    assert processed(build(Toxicity(), None), [record]) == ["toxic"]


def test_a_missing_scorer_is_told_when_the_stage_is_built(monkeypatch):
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(RunError, match="alt-profanity-check") as raised:
        build(Toxicity(), None)
    assert "training-engine[evals]" in raised.value.hint
