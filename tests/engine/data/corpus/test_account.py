"""The card's account of documents and bytes: nothing is lost, and nothing counted twice."""

from __future__ import annotations

from itertools import pairwise

import pytest
from engine_data.config import ExactDedup
from engine_data.exact_dedup import ExactDedupStep
from hypothesis import HealthCheck, given, reject, settings, strategies as st

from engine.contracts.data import DataSource
from engine.contracts.records import Bad, Text
from engine.data.corpus.each import each
from engine.errors import RunError

_TEXTS = st.text("abß 世\n", max_size=8)


class _Given(DataSource):
    """Texts in parts of three, and bad rows where there is none."""

    def __init__(self, texts):
        self._texts = texts

    def parts(self):
        return [str(start) for start in range(0, max(1, len(self._texts)), 3)]

    def records(self, part):
        for number in range(int(part), min(int(part) + 3, len(self._texts))):
            text = self._texts[number]
            bad = Bad(str(number), "nothing", "it is not there")
            yield bad if text is None else Text(id=str(number), source="given", text=text)


def _shortened(document):
    return Text(id=document.id, source=document.source, text=document.text.replace("a", ""))


def _grown(document):
    return "too-short" if len(document.text) < 2 else {"text": document.text + "世", "size": 1}


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_TEXTS | st.none(), max_size=9), st.lists(_TEXTS, max_size=5))
def test_what_comes_in_is_kept_held_out_or_dropped_by_a_rule(new_corpus, texts, others):
    """By source, in documents and bytes, with what each step cuts or adds."""
    processors = [each(_shortened), ExactDedupStep(ExactDedup()), each(_grown)]
    corpus = new_corpus()
    try:
        card = corpus.prepare(
            _Given(texts), _Given(others), processors=processors, holdout=0.3, seed=5
        )
    except RunError:  # a source gave no document to train on
        reject()
    for number, (source, all_texts) in enumerate(
        zip(card["sources"], [texts, others], strict=True)
    ):
        read = [text for text in all_texts if text is not None]
        account = source["account"]
        steps = account["steps"]
        dropped = [one for step in steps for one in step["dropped"].values()]
        bad = sum(text is None for text in all_texts)
        assert source["read"] == len(all_texts) == len(read) + bad
        assert account["read_bytes"] == sum(len(text.encode()) for text in read)
        left = source["documents"] + source["held_out"]
        assert len(read) == left + sum(one["documents"] for one in dropped)
        changed = sum(step["changed"]["bytes"] for step in steps)
        kept = source["bytes"] + account["held_out_bytes"]
        assert account["read_bytes"] + changed == kept + sum(one["bytes"] for one in dropped)
        for before, after in pairwise(steps):
            gone = sum(one["documents"] for one in before["dropped"].values())
            assert after["documents"] == before["documents"] - gone
            gone = sum(one["bytes"] for one in before["dropped"].values())
            assert after["bytes"] == before["bytes"] - gone + before["changed"]["bytes"]
        assert source["bytes"] == sum(len(text.encode()) for text in corpus.trained_on(number))


def test_what_a_step_says_of_the_corpus_stands_in_its_card(new_corpus):
    """It sees the documents that it gave something for."""

    class Counting(ExactDedupStep):
        def summary(self, found):
            return {"copies": sorted(n for one in found for n in one.column("id").to_pylist())}

    card = new_corpus().prepare(_Given(["a", "b", "a", "b"]), processors=[Counting(ExactDedup())])
    assert card["processors"] == [{"step": "Counting", "copies": ["2", "3"]}]


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_text_that_a_step_empties_is_dropped_as_empty(new_corpus, text):
    """Its bytes count as changed by that step."""

    def emptied(document):
        return {"text": text} if document.id == "0" else {}

    card = new_corpus().prepare(_Given(["gone", "kept"]), processors=[each(emptied)])
    (source,) = card["sources"]
    assert source["dropped"] == {"empty": 1}
    assert source["account"]["steps"][0]["changed"] == {"documents": 1, "bytes": len(text) - 4}
    assert source["bytes"] == 4
