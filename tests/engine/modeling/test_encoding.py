"""One way from a text to tokens and back, for tokenizers of every family."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st
from support.tokenizers import FAMILIES, TEXTS

from engine import SpecError
from engine.modeling import RecordError, example_tokens, prompt_tokens
from engine.modeling.chat_tokens import readable
from engine.modeling.encoding import (
    boundary,
    continuation,
    document_tokens,
    encoder,
    opened,
    opening,
)

SPELT = "He wrote <|end|> and </s>, <s> too."
_BUILT = {name: make() for name, make in FAMILIES.items()}


@pytest.fixture(params=_BUILT)
def tokenizer(request):
    return _BUILT[request.param]


@pytest.mark.parametrize("text", [TEXTS[0], SPELT, "", " ", "naïve 猫\n\n  x"])
def test_a_text_is_text(tokenizer, text):
    """Names of special tokens, too: as by the tokenizer where it splits them, one by one or many."""
    plain = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert encoder(tokenizer).text(text) == plain
    assert encoder(tokenizer).texts([text, text]) == [plain, plain]
    assert tokenizer.eos_token_id not in plain
    assert document_tokens(tokenizer, text) == [
        boundary(tokenizer), *plain, tokenizer.eos_token_id,
    ]  # fmt: skip


def test_bos_stands_there_once(tokenizer):
    """By the tokenizer's own rule, or where the text begins with it already."""
    text = TEXTS[0]
    assert opened(tokenizer, [text]) == [tokenizer.encode(text)]
    before = opening(tokenizer)
    assert before == ([tokenizer.bos_token_id] if len(tokenizer.encode("")) else [])
    if before:
        (again,) = opened(tokenizer, [tokenizer.bos_token + text])
        assert again.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("family", _BUILT)
@settings(max_examples=150, deadline=None)
@given(text=st.sampled_from(TEXTS[:3]), cuts=st.lists(st.integers(0, 70), max_size=3))
def test_parts_share_no_token_and_lose_nothing(family, text, cuts):
    """A part is encoded as a model reads it that has not seen the next; together they are the text."""
    tokenizer = _BUILT[family]
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[a:b] for a, b in pairwise(edges)]
    found = encoder(tokenizer).parts(parts)
    assert len(found) == len(parts)
    assert tokenizer.decode([token for part in found for token in part]) == text
    assert found[0] == encoder(tokenizer).text(parts[0]) or not parts[0]


@pytest.mark.parametrize("family", _BUILT)
@settings(max_examples=150, deadline=None)
@given(text=st.sampled_from(TEXTS[:3]), cut=st.integers(1, 70))
def test_a_continuation_is_decoded_in_its_context(family, text, cut):
    """Also one that begins with spaces, which some decoders strip from the beginning of a text."""
    tokenizer = _BUILT[family]
    before, after = encoder(tokenizer).parts([text[:cut], text[cut:]])
    assert continuation(tokenizer, [*opening(tokenizer), *before], after) == text[cut:]


def test_private_characters_are_text_as_well(tokenizer):
    """None is another name of a special token; a record that a template would write is refused."""
    text = "a\U000f0000b \U000f0001\U00100000 c"
    plain = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert encoder(tokenizer).text(text) == encoder(tokenizer).texts([text])[0] == plain
    found = encoder(tokenizer).parts([text, text])
    assert found[0] == plain
    talking = copy.deepcopy(tokenizer)
    talking.chat_template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    with pytest.raises(RecordError, match="with private-use characters"):
        prompt_tokens(talking, text)
    assert readable(tokenizer, text) == text
    assert readable(talking, [{"content": text}]) == [{"content": "a\ufffdb \ufffd\ufffd c"}]
    assert prompt_tokens(talking, readable(talking, text))


def test_without_a_template_a_question_and_its_answer_are_plain_text():
    """As one message each, too; more than that is refused, and no tool is left out in silence."""
    tokenizer = _BUILT["byte-level"]
    asks, says = {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "2"}
    plain = example_tokens(tokenizer, "Two?", "2")
    assert example_tokens(tokenizer, [asks], [{**says, "tool_calls": None}]) == plain
    assert prompt_tokens(tokenizer, [asks]) == prompt_tokens(tokenizer, "Two?")
    call = {"function": {"name": "f", "arguments": {}}}
    for prompt, answer, tools in (
        ([{"role": "system", "content": "Be short."}, asks], [says], None),
        ([asks], [{**says, "tool_calls": [call]}], None),
        ([{**asks, "role": "system"}], [says], None),
        ([asks], [{**says, "content": ""}, says], None),
        ("Two?", "2", [{"function": {"name": "f"}}]),
    ):
        with pytest.raises(SpecError, match="has no chat template"):
            example_tokens(tokenizer, prompt, answer, tools)
