"""Questions of arithmetic: right answers, each question once, held out with its mirror image."""

from __future__ import annotations

import re

import pytest
from support.internals import is_held_out
from support.sources import records_of

from engine import EngineError
from engine.testing import StandAloneContext, check_component


def records(**fields):
    source = {"type": "arithmetic", **fields}
    return records_of(StandAloneContext().build("data-source", source))


def right(question):
    """By Python itself."""
    assert re.fullmatch(r"\d+[-+*]\d+", question)
    return str(eval(question))


@pytest.mark.covers("data-source/arithmetic.records")
@pytest.mark.parametrize("schema", ["text", "completion", "prompt"])
def test_contract(schema):
    """In each schema, always in the same order."""
    check_component("data-source", {"type": "arithmetic", "records": schema, "digits": 1})


@pytest.mark.covers("data-source/arithmetic.operations", "data-source/arithmetic.digits")
def test_every_question_is_asked_once_with_its_answer():
    """As text, as a completion and in the row of a prompt, in one order."""
    fields = {"operations": ["+", "-", "*"], "digits": 1}
    prompts = records(**fields)
    asked = {f"{a}{sign}{b}=" for a in range(10) for b in range(10) for sign in "+-*"}
    assert len(prompts) == len(asked)
    assert {r.prompt for r in prompts} == asked
    assert all(r.meta["answer"] == right(r.prompt[:-1]) for r in prompts)
    pairs = [(r.prompt, r.meta["answer"]) for r in prompts]
    assert [(r.prompt, r.completion) for r in records(records="completion", **fields)] == pairs
    assert [r.text for r in records(records="text", **fields)] == [p + a for p, a in pairs]
    with pytest.raises(ValueError, match="named twice"):
        records(operations=["+", "+"])


@pytest.mark.covers("data-source/arithmetic.questions")
def test_some_are_a_fair_sample():
    """Of a number of questions that could not all be made."""
    some = records(digits=9, questions=200)
    assert len({r.prompt for r in some}) == 200
    larger = sum(int(r.prompt.split("+")[0]) > 5e8 for r in some)
    assert 70 < larger < 130


def test_what_is_held_out_is_unseen_in_every_form():
    """One side for text, completion and prompt, and for 3+4 and 4+3; not for 3-4 and 4-3."""
    sides = {}
    for schema in ("text", "completion", "prompt"):
        for record in records(records=schema, digits=1, operations=["+", "-"]):
            sides.setdefault(record.id, set()).add(is_held_out(record, 0.3, 7))
    assert all(len(side) == 1 for side in sides.values())
    mirrored = [
        (f"{a}{sign}{b}", f"{b}{sign}{a}") for a in range(10) for b in range(a) for sign in "+-"
    ]
    apart = [one for one, other in mirrored if sides[one] != sides[other]]
    assert apart
    assert all("-" in one for one in apart)


@pytest.mark.covers(
    "data-source/arithmetic.weight",
    "data-source/arithmetic.max_epochs",
    "data-source/arithmetic.bad",
)
@pytest.mark.parametrize(
    ("field", "told"), [({"weight": 0}, "has weight 0"), ({"max_epochs": 2}, "the data ends after")]
)
def test_it_obeys_its_share(tiny_spec, run_here, field, told):
    """A weight of 0 is nothing, and epochs are counted; no row is bad, whatever the limit."""
    train = tiny_spec["stages"]["base"]["train"]
    source = {"type": "arithmetic", "records": "completion", "questions": 10, "bad": 0}
    tiny_spec["stages"]["tuned"] = {
        "train": {
            **train,
            "data": {**source, **field},
            "model": "base",
            "objective": {"type": "sft", "packing": False},
            "batch": {"examples": 2, "sequence": 32},
            "budget": "11 steps",
            "evaluate": [],
        }
    }
    with pytest.raises(EngineError, match=told):
        run_here(tiny_spec)
