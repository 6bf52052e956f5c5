"""Quality: a weighted mean of perplexity, diversity and safety, whose parts are kept."""

from __future__ import annotations

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from engine_corpus.judge.scores.config import Quality
from engine_corpus.judge.scores.ngram_model import NgramModel
from engine_corpus.judge.scores.quality import QualityStep
from engine_corpus.judge.scores.toxicity import toxicities
from engine_corpus.judge.scores.words import words_of
from pydantic import ValidationError

from engine import RunError, Text
from engine.testing import processed

PARTS = ("quality_perplexity", "quality_diversity", "quality_safety")


@pytest.fixture(scope="module")
def reference(tmp_path_factory, topics):
    """Help texts, of which the corpora below have none."""
    folder = tmp_path_factory.mktemp("reference")
    for number, text in enumerate(topics[:30]):
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return f"{folder}/*.txt"


@pytest.fixture(scope="module")
def corpus(topics, library):
    """Texts of two sources: help and code, and each of its texts is cut to 3,000 characters."""
    code = library("[a-c]*.py")[:20]
    texts = [text[:3000] for text in (*topics[30:60], *code)]
    return texts, ["help"] * 30 + ["code"] * len(code)


@pytest.fixture(scope="module")
def found(scored, reference, corpus):
    """What the step gives for the corpus with its defaults."""
    texts, sources = corpus
    return scored("quality", texts, sources=sources, reference=[reference])


@pytest.mark.covers("processor/quality.weights", "processor/quality.reference")
def test_quality_is_the_weighted_mean_of_its_parts(found, scored, reference, corpus):
    """Each between 0 and 1; weights count in proportion."""
    parts = np.array([[row[name] for name in PARTS] for row in found])
    assert ((parts >= 0) & (parts <= 1)).all()
    assert [row["quality"] for row in found] == pytest.approx(parts @ [0.5, 0.3, 0.2])
    texts, sources = corpus
    other = scored("quality", texts, sources=sources, reference=[reference], weights=[1, 1, 2])
    assert [row["quality"] for row in other] == pytest.approx(parts @ [0.25, 0.25, 0.5])


def test_perplexity_is_that_of_the_model_of_the_reference(found, corpus, topics):
    """And its percentile within the source: how many have a greater one."""
    texts, sources = corpus
    model = NgramModel(words_of(topics[:30]), 3)
    for text, row in zip(texts, found, strict=True):
        entropy = -model.log_probabilities(words_of([text])).mean()
        assert row["perplexity"] == pytest.approx(np.exp(entropy), rel=1e-9)
    for source in ("help", "code"):
        own = [row for row, of in zip(found, sources, strict=True) if of == source]
        levels = [round(1000 * np.log(row["perplexity"])) for row in own]
        for row, level in zip(own, levels, strict=True):
            greater = sum(other > level for other in levels) + levels.count(level) / 2
            assert row["quality_perplexity"] == pytest.approx(greater / len(own))


def test_safety_is_what_the_scorer_of_toxicity_leaves(found, corpus):
    assert [row["quality_safety"] for row in found] == pytest.approx(1 - toxicities(corpus[0]))


@pytest.mark.parametrize("parts", [3, 7])
def test_scores_depend_neither_on_parts_nor_on_order(parts, found, scored, reference, corpus):
    """To the last bit: of a shuffled corpus in so many parts."""
    order = random.Random(parts).sample(range(len(found)), len(found))
    texts, sources = ([given[at] for at in order] for given in corpus)
    again = scored("quality", texts, sources=sources, parts=parts, reference=[reference])
    assert again == [found[at] for at in order]


def test_nothing_is_dropped_or_changed(reference, corpus):
    """The step annotates; `select` decides."""
    step = QualityStep(Quality(reference=(reference,)))
    records = [Text(id=str(n), source="s", text=text) for n, text in enumerate(corpus[0][:5])]
    assert processed(step, records, parts=2) == records


def test_documents_without_words_are_the_worst(scored, reference, corpus):
    """And leave others' percentiles as they are."""
    texts = [corpus[0][0], " \n", corpus[0][1], ""]
    rows = scored("quality", texts, reference=[reference], parts=2)
    assert [rows[at]["perplexity"] for at in (1, 3)] == [None, None]
    for at in (1, 3):
        assert [rows[at][name] for name in PARTS[:2]] == [0, 0]
    assert sorted(rows[at]["quality_perplexity"] for at in (0, 2)) == [0.25, 0.75]
    alone = scored("quality", ["", " "], reference=[reference])
    assert [row["quality_perplexity"] for row in alone] == [0, 0]


def test_parts_of_weight_0_are_not_computed(scored, reference, corpus):
    """Nor is their reference needed."""
    texts = corpus[0][:3]
    rows = scored("quality", texts, weights=[0, 1, 0])
    assert all(row["quality"] == row["quality_diversity"] for row in rows)
    for name in ("perplexity", "quality_perplexity", "quality_safety"):
        assert {row[name] for row in rows} == {None}
    rows = scored("quality", texts, reference=[reference], weights=[1, 0, 0])
    assert all(row["quality"] == row["quality_perplexity"] for row in rows)


@pytest.mark.covers("processor/quality.order", "processor/quality.sample")
def test_order_and_sample_change_their_part_alone(found, scored, reference, corpus):
    """Perplexity and diversity."""
    texts, sources = corpus
    given = {"sources": sources, "reference": [reference]}
    changes = {"quality_perplexity": {"order": 2}, "quality_diversity": {"sample": 50}}
    for name, fields in changes.items():
        rows = scored("quality", texts, **given, **fields)
        before, after = (
            [[row[part] for row in table] for part in PARTS] for table in (found, rows)
        )
        assert [a != b for a, b in zip(before, after, strict=True)] == [p == name for p in PARTS]


def test_kept_scores_are_not_used_for_another_reference(scored, tmp_path, corpus):
    """The contents of its files belong to the key of what is kept."""
    file = tmp_path / "a.txt"
    file.write_text(corpus[0][0], encoding="utf-8")
    before = scored("quality", corpus[0][:4], reference=[str(file)])
    file.write_text(corpus[0][-1], encoding="utf-8")
    assert scored("quality", corpus[0][:4], reference=[str(file)]) != before


def test_wrong_settings_are_told(tmp_path, scored):
    """Before anything runs, where that can be."""
    with pytest.raises(ValidationError, match="`reference` is missing"):
        Quality()
    with pytest.raises(ValidationError, match="all weights are 0"):
        Quality(weights=(0, 0, 0))
    with pytest.raises(ValidationError, match="`reference` is not used"):
        Quality(reference=("a.txt",), weights=(0, 1, 1))
    missing = Quality(reference=(f"{tmp_path}/*.txt",))
    assert "no file matches" in missing.problems()["reference"]
    assert list(missing.reads()) == [f"{tmp_path}/*.txt"]
    (tmp_path / "empty.txt").write_text(" \n")
    assert missing.problems() == {}
    with pytest.raises(RunError, match="have no words"):
        scored("quality", ["a"], reference=[f"{tmp_path}/*.txt"])


def test_a_source_s_means_are_told(found, corpus):
    """As plain data, of tables part by part."""
    table = pa.Table.from_pylist(found).append_column("source", [corpus[1]])
    step = QualityStep(Quality(weights=(0, 1, 1)))
    told = step.summary(iter([table.slice(0, 20), table.slice(20), table.slice(0, 0)]))
    assert list(told) == ["code", "help"]
    assert told["help"]["documents"] == 30
    mean = np.mean([row["quality"] for row in found[:30]])
    assert told["help"]["quality"] == pytest.approx(mean)
    assert json.loads(json.dumps(told)) == told
    assert step.summary(iter([])) == {}
