"""A classifier of good and bad examples, trained here or opened from a folder."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from engine_corpus.judge.scores.classifier import ClassifierStep
from engine_corpus.judge.scores.config import Classifier
from engine_corpus.judge.scores.features import features_of
from engine_corpus.judge.scores.linear_classifier import Settings, opened, save, trained
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from engine import RunError, Text
from engine.testing import processed

GOLDEN = [47320, 93670, 134115, 148392, 164718, 181286]
"""Buckets of the n-grams of "the cat, the", by number."""


@pytest.fixture(scope="module")
def examples(tmp_path_factory, topics, library):
    """Settings with prose as good examples and code as bad ones, as text files and JSON lines."""
    folder = tmp_path_factory.mktemp("examples")
    for number, text in enumerate(topics[:20]):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    lines = [json.dumps({"text": text}) for text in library("[a-b]*.py")]
    (folder / "bad.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"good": [f"{folder}/*.txt"], "bad": [f"{folder}/bad.jsonl"]}


@pytest.fixture(scope="module")
def tested(topics, library):
    """Texts of both kinds, of which there are no examples; modules begin with prose, so their ends."""
    return [text[-4000:] for text in (*topics[40:60], *library("[s-t]*.py"))]


@pytest.mark.covers("processor/classifier.good", "processor/classifier.bad")
@pytest.mark.parametrize("fields", [{}, {"ngrams": "characters", "order": 4}])
def test_texts_like_the_good_examples_have_high_scores(fields, scored, examples, tested):
    """By words and by characters: at least four in five of texts that it was not trained on."""
    rows = scored("classifier", tested, **examples, **fields)
    scores = [row["classifier"] for row in rows]
    assert all(0 <= score <= 1 for score in scores)
    assert np.mean([score > 0.5 for score in scores[:20]]) > 0.8
    assert np.mean([score < 0.5 for score in scores[20:]]) > 0.8
    assert scored("classifier", tested, parts=3, **examples, **fields) == rows
    swapped = scored("classifier", tested, good=examples["bad"], bad=examples["good"], **fields)
    assert np.mean([row["classifier"] < 0.5 for row in swapped[:20]]) > 0.8


@pytest.mark.covers("processor/classifier.threshold", "processor/classifier.drop")
def test_documents_below_the_threshold_are_dropped(scored, examples, tested):
    """By their rule; without a threshold, or with `drop: false`, they are only annotated."""
    rows = scored("classifier", tested, threshold=0.5, **examples)
    for row in rows:
        assert row["drop"] == ("low-classifier-score" if row["classifier"] < 0.5 else None)
    assert {row["drop"] for row in rows} == {None, "low-classifier-score"}
    annotated = [{"classifier": row["classifier"]} for row in rows]
    assert scored("classifier", tested, **examples) == annotated
    assert scored("classifier", tested, threshold=0.5, drop=False, **examples) == annotated
    step = ClassifierStep(Classifier(threshold=0.5, **examples))
    records = [Text(id=str(n), source="s", text=text) for n, text in enumerate(tested)]
    dropped = [outcome == "low-classifier-score" for outcome in processed(step, records, parts=2)]
    assert dropped == [row["drop"] is not None for row in rows]


@pytest.mark.covers(
    "processor/classifier.ngrams", "processor/classifier.order", "processor/classifier.features"
)  # fmt: skip
def test_features_are_as_configured(scored, examples, tested):
    """Each setting changes the scores."""
    given = [{}, {"ngrams": "characters"}, {"order": 1}, {"features": 64}]
    scores = [
        tuple(row["classifier"] for row in scored("classifier", tested[:3], **examples, **fields))
        for fields in given
    ]
    assert len(set(scores)) == len(given)


@pytest.mark.covers("processor/classifier.folder")
def test_a_saved_classifier_gives_the_same_scores(tmp_path, scored, topics, library, tested):
    """To the last bit; its files hold no pickle."""
    made = trained(topics[:20], library("[a-b]*.py"), Settings("characters", 3, 2**12))
    save(made, tmp_path / "saved")
    expected = made.scores(pa.array(tested)).tolist()
    rows = scored("classifier", tested, folder=f"{tmp_path}/saved")
    assert [row["classifier"] for row in rows] == expected
    for file in (tmp_path / "saved").iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, IndexError, KeyError, EOFError)):
            pickle.loads(file.read_bytes())
    assert list(Classifier(folder=f"{tmp_path}/saved").reads()) == [f"{tmp_path}/saved"]


def test_training_gives_the_same_weights_again(topics, library):
    """Whatever the order of the files' names, as they are sorted."""
    first, second = (trained(topics[:10], library("[a-b]*.py"), Settings()) for _ in range(2))
    assert (first.weights == second.weights).all()
    assert first.intercept == second.intercept


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("aB é\n"), max_size=12), min_size=1, max_size=4),
    st.sampled_from(["words", "characters"]),
    st.integers(1, 4),
)
def test_features_of_a_text_have_length_1_and_depend_on_it_alone(texts, ngrams, order):
    """Those of a text without n-grams are none."""
    together = features_of(pa.array(texts, pa.large_string()), ngrams, order, 97)
    squares = np.bincount(together.rows, together.values**2, minlength=len(texts))
    assert squares == pytest.approx((together.counts > 0).astype(float))
    ends = np.cumsum(together.counts)
    for text, end, count in zip(texts, ends, together.counts, strict=True):
        alone = features_of(pa.array([text], pa.large_string()), ngrams, order, 97)
        assert alone.columns.tolist() == together.columns[end - count : end].tolist()
        assert alone.values.tolist() == together.values[end - count : end].tolist()
        assert (len(alone.columns) > 0) == bool(text if ngrams == "characters" else text.strip())


def test_hashes_are_the_same_on_every_machine():
    """A saved classifier depends on them."""
    found = features_of(pa.array(["the cat, the"]), "words", 2, 2**18)
    assert found.columns.tolist() == GOLDEN
    values = (np.array([1, 1, 1, 1, 2, 1]) / 3).tolist()
    assert sorted(found.values.tolist()) == pytest.approx(sorted(values))


def test_damaged_folders_are_told(tmp_path, topics, library, scored):
    """With what is wrong, and before a document is read."""
    with pytest.raises(RunError, match="no classifier can be opened"):
        scored("classifier", ["a"], folder=f"{tmp_path}/none")
    save(trained(topics[:3], library("a*.py")[:3], Settings(features=64)), tmp_path)
    weights = tmp_path / "classifier.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:100], whole[:-8], pickle.dumps([1.0])):
        weights.write_bytes(damaged)
        with pytest.raises(RunError, match="no classifier can be opened"):
            opened(tmp_path)
    weights.write_bytes(whole)
    for told in ('{"ngrams": "words", "order": 2, "features": 65}', '{"ngrams": 1}', "[]", "{"):
        (tmp_path / "classifier.json").write_text(told)
        with pytest.raises(RunError, match="no classifier can be opened"):
            opened(tmp_path)


def test_wrong_settings_are_told(tmp_path, scored):
    """Fields that would have no effect are refused."""
    with pytest.raises(ValidationError, match="examples of both kinds"):
        Classifier(good=("a",))
    with pytest.raises(ValidationError, match="leave out `bad`, `order`"):
        Classifier(folder="x", bad=("a",), order=2)
    with pytest.raises(ValidationError, match="no effect without `threshold`"):
        Classifier(folder="x", drop=False)
    file = tmp_path / "a.txt"
    file.write_text("words")
    config = Classifier(good=(str(file),), bad=(f"{tmp_path}/*.md",))
    assert list(config.problems()) == ["bad"]
    assert list(config.reads()) == [str(file), f"{tmp_path}/*.md"]
    Path(tmp_path / "b.md").write_text(" ")
    with pytest.raises(RunError, match="examples of `bad` have no text"):
        scored("classifier", ["a"], good=[str(file)], bad=[f"{tmp_path}/*.md"])
