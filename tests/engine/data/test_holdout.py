"""On which side of the hold-out a record is, and texts that answer what is held out."""

from __future__ import annotations

from hypothesis import example, given, settings, strategies as st

from engine.contracts.records import (
    Chat,
    Completion,
    Labelled,
    Preference,
    Prompt,
    Record,
    Stepwise,
    Text,
)
from engine.data.holdout import Answered, digest_of, is_held_out


def _user(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, object]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}


def _shapes(prompt: str, answer: str) -> list[Record]:
    """The same question in every schema, from other files and lines, with more turns or none."""
    later = [_assistant(answer), _user("And then?"), _assistant("Nothing.")]
    parts = [{"type": "text", "text": prompt}, {"type": "image"}]
    shapes = [
        (Chat, {"messages": [SYSTEM, _user(prompt), *later]}),
        (Chat, {"messages": [_assistant("Hello."), _user(f"{prompt}\n"), _assistant(answer)]}),
        (Chat, {"messages": [_user(parts), _assistant(answer)]}),
        (Completion, {"prompt": prompt, "completion": answer}),
        (Completion, {"prompt": [_user(f" {prompt}")], "completion": [_assistant(answer)]}),
        (Preference, {"prompt": f"{prompt} ", "chosen": answer, "rejected": "No."}),
        (
            Preference,
            {
                "prompt": [],
                "chosen": [_user(prompt), _assistant(answer)],
                "rejected": [_user(prompt), _assistant("No.")],
            },
        ),
        (Labelled, {"prompt": [SYSTEM, _user(prompt)], "completion": answer, "label": True}),
        (Stepwise, {"prompt": prompt, "completions": answer.split(" "), "labels": [True]}),
        (Prompt, {"prompt": [_user(prompt)], "meta": {"answer": answer}}),
    ]
    return [
        cls(id=f"{n}.jsonl:{n}", source="s", **fields) for n, (cls, fields) in enumerate(shapes)
    ]


@given(st.text(min_size=1), st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
@example("What is\n\n two  and two?", 17)
def test_a_prompt_is_on_one_side_in_every_shape(prompt, seed):
    """Whatever holds it, from whatever file; spaces around it and between words make no other one."""
    if not prompt.split():
        return
    for share in (0.1, 0.5, 0.9):
        assert len({is_held_out(r, share, seed) for r in _shapes(prompt, "four")}) == 1
    assert len({digest_of(r) for r in _shapes(prompt, "four")}) == 1


def test_sides_part_by_what_is_asked_and_by_no_more():
    """Prompts are spread over the sides; a group and a text go by themselves, as they always have."""
    prompts = [Prompt(id="same", source="s", prompt=f"Question {n}") for n in range(1000)]
    out = [is_held_out(p, 0.3, 3) for p in prompts]
    assert 250 < sum(out) < 350
    assert all(is_held_out(p, 0.4, 3) for p, o in zip(prompts, out, strict=True) if o)
    grouped = [
        Prompt(id=str(n), source="s", prompt=f"{n}", meta={"group": "g"}) for n in range(100)
    ]
    assert len({is_held_out(p, 0.5, 3) for p in grouped}) == 1
    texts = [Text(id="same", source="s", text=f"{n}") for n in range(100)]
    assert len({is_held_out(t, 0.5, 3) for t in texts}) == 2
    nothing = [Chat(id=str(n), source="s", messages=[]) for n in range(100)]
    assert len({is_held_out(c, 0.5, 3) for c in nothing}) == 2
    # Recorded: an engine that gives others would train on what its users' runs hold out.
    assert [n for n, o in enumerate(out) if o][:8] == SIDES


SIDES = [3, 10, 16, 19, 20, 22, 24, 27]


def test_a_text_with_prompt_and_answer_is_found():
    """In whatever shape, quoted, wrapped, in another case; with the answer somewhere after it."""
    for record in _shapes("How old is Ada's cat, in years?", "It is 11 years old."):
        answered = Answered([record])
        assert answered.in_text("Q: How old is Ada's cat, in years?\nA: It is 11 years old.\n")
        assert answered.in_text(
            "x\n> how old is ada's cat,\n> in years\n\nAda smiled: it is 11 YEARS old"
        )
        assert not answered.in_text("Q: How old is Ada's cat, in years?\nA: It is 12 years old.\n")
        assert not answered.in_text("It is 11 years old. How old is Ada's cat, in years?")
        assert not answered.in_text("How old is Ada's cat, in yearsteps? It is 11 years old")


def test_all_answers_of_a_record_are_looked_for():
    """The better and the worse one; scripts without spaces are read letter by letter."""
    pair = Preference(id="1", source="s", prompt="今天天气怎么样", chosen="很好", rejected="不好")
    answered = Answered([pair])
    assert answered.in_text("小明问今天天气怎么样,我说不好。")
    assert answered.in_text("今天天气怎么样? 很好")
    assert not answered.in_text("今天天气很好")
    assert not Answered([Prompt(id="1", source="s", prompt="今天")]).in_text("今天")
    assert not len(Answered([Completion(id="1", source="s", prompt="?", completion="a")]))


_WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=4)


@given(
    st.lists(st.tuples(_WORDS, _WORDS), max_size=8), st.lists(st.sampled_from("abcd"), max_size=12)
)
@settings(max_examples=150, deadline=None)
def test_the_search_finds_what_looking_everywhere_finds(pairs, text):
    """However many prompts share their words."""

    def found(prompt, answer):
        at = [i for i in range(len(text)) if text[i : i + len(prompt)] == prompt]
        return at and any(
            text[i : i + len(answer)] == answer for i in range(at[0] + len(prompt), len(text))
        )

    records = [
        Completion(id="1", source="s", prompt=" ".join(p), completion=" ".join(a)) for p, a in pairs
    ]
    assert Answered(records).in_text(" ".join(text)) == any(found(*pair) for pair in pairs)
