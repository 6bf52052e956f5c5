"""Questions about the standard library, with right and wrong answers."""

from __future__ import annotations

import sysconfig
from collections import Counter

import pytest
from engine_data.config import PythonQuestions
from engine_data.sources.python_questions import build
from support.internals import is_held_out
from support.sources import records_of

_FILES = {
    "shop.py": '''"""A shop."""


class Shop:
    """Sells things.

    All of them.
    """

    def price(self, thing, *, rebate=0):
        """The price of a
        thing."""
        # Rebates count once.
        if rebate:
            return 1
        return 2

    def _hidden(self):
        """Nobody sees this one."""
        return 3

    def short(self):
        """Brief."""
        return 4

    def undocumented(self):
        return 5


async def deliver(thing):
    """Brings a thing to where it is wanted."""
''',
    "bank/__init__.py": '''
def pay(amount):
    """Pays an amount of money to somebody."""
    return amount


def pay(amount):
    """Pays it, defined once more."""
    return -amount
''',
    "test/trial.py": 'def trial():\n    """A test, which is no part of it."""\n    return 1\n',
    "wrong.py": "def (:\n",
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A small library in the place of this Python's."""
    for name, content in _FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(sysconfig, "get_path", {"stdlib": str(tmp_path)}.get)


def _read(**options):
    return records_of(build(PythonQuestions(**options), None))


def _answers(**options) -> dict[str, str]:
    return {record.prompt: record.completion for record in _read(**options)}


def test_what_public_things_do_is_asked(library):
    """Each once, with its signature; too little is no answer."""
    assert _answers() == {
        "What does `shop.Shop` do?\n": "Sells things.",
        "What does `shop.Shop.price(self, thing, *, rebate=0)` do?\n": "The price of a thing.",
        "What does `shop.deliver(thing)` do?\n": "Brings a thing to where it is wanted.",
        "What does `bank.pay(amount)` do?\n": "Pays an amount of money to somebody.",
    }


@pytest.mark.covers("data-source/python-questions.answers")
def test_the_whole_docstring_can_be_the_answer(library):
    """As it stands there, without its indentation."""
    whole = _answers(answers="whole")
    assert whole["What does `shop.Shop` do?\n"] == "Sells things.\n\nAll of them."
    assert whole["What does `shop.Shop.price(self, thing, *, rebate=0)` do?\n"] == (
        "The price of a\nthing."
    )


@pytest.mark.covers("data-source/python-questions.questions")
def test_functions_are_to_be_completed(library):
    """Up to the docstring it is the question, after it the answer."""
    assert _answers(questions=("body",), max_characters=100) == {
        "Complete this function:\n\ndef price(self, thing, *, rebate=0):\n"
        '    """The price of a\n    thing."""\n': (
            "    # Rebates count once.\n    if rebate:\n        return 1\n    return 2"
        ),
        'Complete this function:\n\ndef short(self):\n    """Brief."""\n': "    return 4",
        "Complete this function:\n\ndef pay(amount):\n"
        '    """Pays an amount of money to somebody."""\n': "    return amount",
    }
    assert len(_read(questions=("body", "purpose"))) == 7


@pytest.mark.covers("data-source/python-questions.max_characters")
def test_what_is_too_long_is_left_out(library):
    """Prompts and answers alike; nothing is cut."""
    assert list(_answers(max_characters=35)) == ["What does `shop.Shop` do?\n"]


@pytest.mark.covers("data-source/python-questions.records")
def test_the_same_questions_in_every_form(library):
    """A prompt alone, a conversation, a completion, or with a wrong answer."""
    completions = _read()
    for schema in ("preference", "prompt", "chat"):
        records = _read(records=schema)
        assert {r.schema for r in records} == {schema}
        assert [r.id for r in records] == [r.id for r in completions]
    talk = _read(records="chat")[0].messages
    assert [m["role"] for m in talk] == ["user", "assistant"]
    assert talk[0]["content"] + "\n" == completions[0].prompt
    assert talk[1]["content"] == completions[0].completion


def test_wrong_answers_are_wrong_and_stay_in_their_module():
    """Another answer of the same module, or the right one damaged; the same each time."""
    pairs = _read(records="preference", questions=("purpose", "body"))
    assert len(pairs) > 1000
    assert all(pair.rejected != pair.chosen for pair in pairs)
    by_group: dict[str, set[str]] = {}
    for pair in pairs:
        by_group.setdefault(pair.meta["group"], set()).add(pair.chosen)
    borrowed = [p for p in pairs if p.rejected in by_group[p.meta["group"]]]
    assert 0.35 < len(borrowed) / len(pairs) < 0.6
    damaged = [p for p in pairs if p.rejected not in by_group[p.meta["group"]]]
    ways = Counter(_way(pair.chosen, pair.rejected) for pair in damaged)
    assert ways["cut"] > 100
    assert ways["repeated"] > 100
    assert ways["shuffled"] > 100
    assert ways["none of these"] == 0


def _way(chosen: str, rejected: str) -> str:
    words = [sorted(text.split(" ")) for text in (chosen, rejected)]
    if words[0] == words[1]:
        return "shuffled"
    if len(rejected) < len(chosen):
        return "cut" if chosen.startswith(rejected) else "none of these"
    return (
        "repeated"
        if rejected.endswith(chosen) or set(words[1]) <= set(words[0])
        else "none of these"
    )


def test_the_order_is_that_of_a_hash():
    """So the first few are from many modules."""
    records = _read()
    assert len({record.meta["group"] for record in records[:8]}) >= 6
    assert {(r.source, r.license) for r in records} == {("python-questions", "PSF-2.0")}
    assert max(len(r.completion) for r in records) <= 240


def test_a_module_is_held_out_whole():
    """By the name that `python-library` gives its group, so that both hold out the same."""
    records = _read(questions=("purpose", "body"))
    held = {r.meta["group"] for r in records if is_held_out(r, 0.1, 17)}
    learnt = {r.meta["group"] for r in records if not is_held_out(r, 0.1, 17)}
    assert held
    assert not held & learnt
    assert all(group.endswith(".py") for group in held)


@pytest.mark.covers(
    "data-source/python-questions.weight", "data-source/python-questions.max_epochs"
)
@pytest.mark.parametrize(
    ("field", "told"), [({"weight": 0}, "has weight 0"), ({"max_epochs": 2}, "the data ends after")]
)
def test_it_obeys_its_share(library, tiny_spec, run_here, field, told):
    """A weight of 0 is nothing, and epochs are counted."""
    from engine import EngineError

    train = tiny_spec["stages"]["base"]["train"]
    tiny_spec["stages"]["tuned"] = {
        "train": {
            **train,
            "data": {"type": "python-questions", **field},
            "model": "base",
            "objective": {"type": "sft", "packing": False},
            "batch": {"examples": 2, "sequence": 32},
            "budget": "9 steps",
            "evaluate": [],
        }
    }
    with pytest.raises(EngineError, match=told):
        run_here(tiny_spec)
