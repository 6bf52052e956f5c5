"""Which documents count as contaminated, and by what."""

from __future__ import annotations

import json
import pydoc_data.topics

import numpy as np
import pyarrow as pa
import pytest
from engine_corpus.decontaminate.config import Decontaminate
from engine_corpus.decontaminate.index import Index
from engine_corpus.decontaminate.step import DecontaminateStep

from engine import BenchmarkTexts, ItemTexts
from engine.testing import StandAloneContext, check_component

LONG = ItemTexts(
    "long",
    "A baker fills seven trays with nine rolls each and sells all but four; how many are gone?",
    "She filled trays with sixty-three rolls, four are left over, so fifty-nine rolls were sold.",
)
SHORT = ItemTexts("short", "Which river flows through Ulm and Linz?", "the Danube")
PASSAGE = ItemTexts(
    "read",
    "Is it tall?",
    "no",
    "The tower was begun in the spring of that year and stood half built for two decades after.",
)
FILLER = sorted(pydoc_data.topics.topics.values())[:12]


def _grams(text):
    """A text without its first four words, which still has n-grams of 13 words of a long question."""
    return " ".join(text.split()[4:])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (LONG.question, "contaminated"),
        (LONG.answer, "contaminated"),
        (_grams(LONG.question), "contaminated"),
        (" ".join(LONG.question.split()[:12]), None),
        (f"{SHORT.question} {SHORT.answer}", "contaminated"),
        (f"{SHORT.question} A. the Rhine B. the Danube C. the Elbe", "contaminated"),
        (SHORT.question, None),
        (f"{SHORT.answer}: {SHORT.question}", None),
        (f"{SHORT.question} {'so ' * 50}{SHORT.answer}", "contaminated"),
        (f"{SHORT.question} {'so ' * 51}{SHORT.answer}", None),
        ("Which river flows through Ulm and through Linz? The Danube.", None),
        (PASSAGE.passage, None),
    ],
)
def test_what_counts(outcomes, text, rule):
    """An n-gram of a question or answer; or a whole short question, soon followed by its answer."""
    assert outcomes([f"{FILLER[0]}\n{text}\n{FILLER[1]}"], [LONG, SHORT, PASSAGE]) == [rule]


def test_boilerplate_of_a_source_is_ignored(outcomes):
    """What more than ten documents of a source have does not count there, but does in another."""
    texts = [f"{filler}\n{LONG.question}" for filler in FILLER]
    assert outcomes(texts, [LONG]) == [None] * 12
    sources = ["many"] * 11 + ["few"]
    assert outcomes(texts, [LONG], sources=sources) == [None] * 11 + ["contaminated"]
    assert outcomes(texts, [LONG], frequent=12) == ["contaminated"] * 12
    assert outcomes(texts[:10], [LONG]) == ["contaminated"] * 10
    assert outcomes([texts[0] * 20], [LONG]) == ["contaminated"]


def test_what_many_items_share_does_not_count(outcomes):
    """Their instructions say nothing about any of them; what is their own does."""
    head = "Read both of the statements below with care and say which one of them you believe:"
    items = [
        ItemTexts(str(n), f"{head} {n} {' '.join(FILLER[n].split()[:30])}", "no") for n in range(11)
    ]
    own = " ".join(FILLER[3].split()[:30])
    assert outcomes([head, own], items) == [None, "contaminated"]
    assert outcomes([head], items[:10]) == ["contaminated"]


def test_rows_of_numbers_do_not_count(outcomes):
    """An n-gram of few different words stands in many texts; the whole item is found all the same."""
    zeros = ItemTexts("0", f"Sum these: {'0 ' * 30}", "0 of course")
    texts = ["0, " * 40, f"Sum these: {'0 ' * 30}: 0, of course"]
    assert outcomes(texts, [zeros]) == [None, "contaminated"]


@pytest.mark.parametrize("parts", [3, 7])
def test_parts_make_no_difference(outcomes, parts):
    """Also where n-grams are counted over all of them."""
    texts = [*FILLER[:9], *(f"{n} {LONG.question}" for n in range(8)), LONG.answer, FILLER[9]]
    texts += [f"{n} {SHORT.question} {SHORT.answer}" for n in range(3)]
    found = outcomes(texts, [LONG, SHORT], frequent=7, parts=parts)
    assert found == [None] * 17 + ["contaminated", None] + ["contaminated"] * 3
    assert outcomes(texts, [LONG, SHORT], frequent=7) == found


@pytest.mark.covers(
    *(f"processor/decontaminate.{field}" for field in ("words", "frequent", "near", "drop"))
)
def test_every_field_has_an_effect(outcomes):
    """Length of the n-grams, distance of the answer, and whether documents are dropped."""
    twelve = " ".join(LONG.question.split()[:12])
    assert outcomes([twelve], [LONG], words=12) == ["contaminated"]
    far = f"{SHORT.question} and so on {SHORT.answer}"
    assert outcomes([far], [SHORT], near=3) == ["contaminated"]
    assert outcomes([far], [SHORT], near=2) == [None]
    assert outcomes([LONG.question], [LONG], drop=False) == [None]


def test_without_items_nothing_is_found(outcomes):
    """Nor in a corpus without documents that have words."""
    assert outcomes([LONG.question, "…"], []) == [None, None]
    assert outcomes(["…", ""], [LONG]) == [None, None]


def test_the_annotation_says_what_is_where():
    """Benchmark, item, field, characters, and how many n-grams; accents move no character."""
    from engine_corpus.decontaminate import step

    index = Index.of([BenchmarkTexts("quiz", (LONG, SHORT, PASSAGE))], 13).packed()
    before = "Größe ½ “und” so weiter. "
    question = LONG.question.upper().replace(" ", "\n")
    texts = [f"{before}{question} – {PASSAGE.passage}", f"{SHORT.question} – {SHORT.answer}!"]
    documents = pa.table(
        {"part": pa.array([0, 0], pa.int32()), "row": [0, 1], "source": ["a", "a"], "text": texts}
    )
    told = step._told(step._found(documents, index, 50), index, True)
    assert told.column("drop").to_pylist() == ["contaminated", "contaminated"]
    first, second = (json.loads(one) for one in told.column("contaminated").to_pylist())
    places = [texts[0][a:b] for one in first for a, b in one["spans"]]
    assert places == [question[:-1], PASSAGE.passage[:-1]]
    assert {(one["item"], one["field"]) for one in first} == {
        ("long", "question"),
        ("read", "passage"),
    }
    words = len(LONG.question.split())
    assert {one["ngrams"] for one in first if one["item"] == "long"} == {words - 12}
    assert [(one["item"], one["field"]) for one in second] == [("short", "question and answer")]
    assert second[0]["spans"] == [[0, len(texts[1]) - 1]]


def test_the_summary_counts_items_spans_and_documents():
    """By benchmark, passages apart; it names what is not searched for."""
    tiny = ItemTexts("tiny", "Who?", "me")
    benchmarks = [BenchmarkTexts("quiz", (LONG, SHORT, PASSAGE, tiny)), BenchmarkTexts("silent")]
    step = DecontaminateStep(Decontaminate(), benchmarks)
    entry = {"benchmark": "quiz", "field": "question", "ngrams": 1}
    passage = {"benchmark": "quiz", "field": "passage", "ngrams": 1, "item": "read"}
    told = [
        [{**entry, "item": "long", "spans": [[0, 9], [20, 30]]}],
        [{**entry, "item": "long", "spans": [[0, 9]]}, {**passage, "spans": [[50, 60]]}],
        None,
    ]
    column = pa.array([one and json.dumps(one) for one in told], pa.string())
    assert step.summary(iter([pa.table({"contaminated": column})])) == {
        "benchmarks": {
            "quiz": {
                "items": 4,
                "too_short": 2,
                "touched": ["long"],
                "spans": 3,
                "documents": 2,
                "passages": {"touched": ["read"], "spans": 1, "documents": 1},
            }
        },
        "not_searched": ["silent"],
    }


def test_an_index_is_the_same_again():
    """As kept results are named by it."""
    benchmarks = [BenchmarkTexts("quiz", (LONG, SHORT, PASSAGE))]
    packed = Index.of(benchmarks, 13).packed()
    assert packed == Index.of(benchmarks, 13).packed()
    assert packed != Index.of(benchmarks, 12).packed()
    keys = Index.of(benchmarks, 13).entries["key"]
    assert (np.diff(keys.astype(object)) >= 0).all()


def test_it_keeps_the_contract():
    """Of a step over a corpus, with items that the kit's documents have and others."""
    context = StandAloneContext()
    item = ItemTexts("0", context.documents[0], "no")
    context = StandAloneContext(benchmarks=[BenchmarkTexts("quiz", (item, SHORT))])
    check_component("corpus-step", {"type": "decontaminate"}, context)


@pytest.mark.parametrize("text", [LONG.question, f"{SHORT.question} {SHORT.answer}"])
def test_nothing_is_found_across_documents(outcomes, text):
    """Though documents are searched together."""
    words = text.split()
    halves = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
    assert outcomes(halves, [LONG, SHORT]) == [None, None]
    assert outcomes([text], [LONG, SHORT]) == ["contaminated"]
