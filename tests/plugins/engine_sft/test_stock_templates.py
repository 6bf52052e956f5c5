"""Conversations in models' own chat templates, as TRL ships them: what is learnt, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import trl
from engine_sft.chat import sequences
from engine_sft.templates import install
from support.models import tiny
from support.tokenizers import byte_level

from engine import Chat, Completion, SpecError
from engine.modeling import RecordError, end_of_turn, ends, prompt_tokens

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SPECIAL = [
    "<|endoftext|>", "<|start|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>",
    "<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>", "<|end|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|return|>", "<|channel|>", "<|message|>", "<|call|>",
    "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>",
    "<|SYSTEM_TOKEN|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>",
]  # fmt: skip
TALK = [
    {"role": "user", "content": "Who took 4 pears?"},
    {"role": "assistant", "content": "Ada did.\nShe gave 2 away."},
    {"role": "user", "content": "And Ben?"},
    {"role": "assistant", "content": "Ben took 7 coins."},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "multiply",
            "description": "Multiplies.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "number", "description": "One."}},
                "required": ["a"],
            },
        },
    }
]
CALL = [
    {"role": "user", "content": "What is 2 times 3?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"type": "function", "function": {"name": "multiply", "arguments": '{"a": 2}'}}
        ],
    },
    {"role": "tool", "name": "multiply", "content": "6"},
    {"role": "assistant", "content": "It is 6."},
]


@pytest.fixture
def tokenizer():
    return byte_level(specials=SPECIAL, bos_token="<|begin_of_text|>")


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def _learnt(pieces) -> tuple[list[int], list[bool]]:
    tokens = [token for piece in pieces for token in piece.tokens]
    return tokens, [piece.turn is not None for piece in pieces for _ in piece.tokens]


def _texts(tokenizer, pieces) -> list[str]:
    return [tokenizer.decode(piece.tokens) for piece in pieces if piece.turn is not None]


AS_TRL = [
    "cohere", "cohere2", "gemma", "gemma3", "lfm2", "llama3", "phi3", "phi3_5", "qwen2_5",
    "qwen3_instruct_2507", "qwen3_vl",
]  # fmt: skip


@pytest.mark.parametrize("name", AS_TRL)
def test_the_tokens_and_what_is_learnt_are_trls(tokenizer, name):
    """Token for token: TRL learns by the marks that it writes into a copy of each template."""
    tokenizer.chat_template = _template(name)
    install(tokenizer, None)
    theirs = tokenizer.apply_chat_template(
        TALK,
        chat_template=_template(f"{name}_training"),
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    (pieces,) = sequences(Chat(id="a", source="s", messages=TALK), tokenizer)
    tokens, learnt = _learnt(pieces)
    masks = [bool(one) for one in theirs["assistant_masks"]]
    assert tokens == theirs["input_ids"][: len(tokens)]
    assert not any(masks[len(tokens) :])
    if name == "qwen2_5":  # TRL also learns the header's line end, with which the model is asked
        first = [i for i, own in enumerate(masks) if own and not masks[i - 1]]
        assert tokenizer.decode([tokens[i] for i in first]) == "\n\n"
        masks = [own and i not in first for i, own in enumerate(masks)]
    assert learnt == masks[: len(tokens)]


@pytest.mark.parametrize("name", [*AS_TRL, "qwen3", "qwen3_5_think", "gptoss"])
def test_a_prompt_is_what_the_model_is_asked(tokenizer, name):
    """As transformers renders it, and a history has the same tokens whether it is learnt or read."""
    tokenizer.chat_template = _template(name)
    asked = tokenizer.apply_chat_template(TALK[:3], add_generation_prompt=True)["input_ids"]
    assert prompt_tokens(tokenizer, TALK[:3]) == asked
    record = Completion(id="a", source="s", prompt=TALK[:3], completion=TALK[3:])
    (pieces,) = sequences(record, tokenizer)
    assert _learnt(pieces)[0][: len(asked)] == asked
    assert pieces[-1].turn is not None
    for found in sequences(Chat(id="a", source="s", messages=TALK), tokenizer):
        tokens = _learnt(found[:-1])[0]
        assert tokens == prompt_tokens(tokenizer, TALK[: 3 if tokens == asked else 1])


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("qwen3", "<think>\n\n</think>\n\nAda", "<think>\n\n</think>\n\nBen took 7 coins.<|im_end|>\n"),
        ("qwen3_5_think", "\n</think>\n\nAda did", "\n</think>\n\nBen took 7 coins.<|im_end|>\n"),
        ("gptoss", "<|channel|>final<|message|>Ada did",
         "<|channel|>final<|message|>Ben took 7 coins.<|return|>"),
    ],
)  # fmt: skip
def test_an_answer_is_learnt_as_it_was_at_its_turn(tokenizer, name, first, last):
    """Where the template writes earlier turns otherwise, each has a sequence of its own; TRL learns
    them in a form that the model meets in no conversation."""
    tokenizer.chat_template = _template(name)
    record = Chat(id="a", source="s", messages=TALK)
    found = [_texts(tokenizer, pieces) for pieces in sequences(record, tokenizer)]
    assert found[0] == [last]
    assert len(found) == 2
    assert found[1][0].startswith(first)


def test_special_tokens_in_a_record_are_text(tokenizer):
    """Only the template's own are special, in answers, in prompts and in the history."""
    tokenizer.chat_template = _template("qwen2_5")
    spelt = [{**m, "content": f"{m['content']} <|im_end|> <|im_start|>"} for m in TALK]
    (pieces,) = sequences(Chat(id="a", source="s", messages=spelt), tokenizer)
    tokens, learnt = _learnt(pieces)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokens.count(end) == 5  # a system's turn, and two of each
    assert [t for t, own in zip(tokens, learnt, strict=True) if own].count(end) == 2
    assert _texts(tokenizer, pieces)[1] == "Ben took 7 coins. <|im_end|> <|im_start|><|im_end|>\n"


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1", "lfm2_2_5"])
def test_tool_calls_are_learnt(tokenizer, name):
    """With arguments as an object or as a text of JSON, and tools that reach the template."""
    tokenizer.chat_template = _template(name)
    record = Chat(id="a", source="s", messages=CALL, tools=TOOLS)
    found = list(sequences(record, tokenizer))
    learnt = [text for pieces in found for text in _texts(tokenizer, pieces)]
    assert sum("It is 6." in text for text in learnt) == 1
    (call,) = (text for text in learnt if "multiply" in text)
    assert '\\"' not in call
    assert all("Multiplies." in tokenizer.decode(_learnt(pieces)[0]) for pieces in found)


@pytest.mark.parametrize(
    ("name", "messages", "tools", "reason"),
    [
        ("gemma", [{"role": "system", "content": "Hi"}, *TALK], None, "that the chat template refuses"),
        ("gemma3", [TALK[0], *TALK], None, "that the chat template refuses"),
        ("llama3", CALL, None, "with a turn (assistant) of which the chat template omits a part"),
        ("qwen2_5", [TALK[0], {**TALK[1], "reasoning_content": "Hm."}], None,
         "with a turn (assistant) of which the chat template omits a part"),
        ("phi3", [TALK[0], {"role": "tool", "content": "6"}, TALK[1]], None,
         "with a turn (tool) of which the chat template omits a part"),
        ("llama3", TALK, TOOLS, "whose tools the chat template omits"),
        ("qwen2_5", [TALK[0], {"role": "assistant", "content": [{"type": "image", "url": "x"}]}], None,
         "with content of type image, not text"),
        ("qwen2_5", [TALK[0], {"role": "assistant", "content": None, "tool_calls":
         [{"function": {"name": "f", "arguments": "{a"}}]}], None,
         "with a tool call whose arguments are not JSON"),
        ("qwen2_5", [TALK[0], {"role": "assistant", "content": None}], None,
         "with a message whose role or content is not text"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_by_name(tokenizer, name, messages, tools, reason):
    """Never trained on as something else."""
    tokenizer.chat_template = _template(name)
    with pytest.raises(RecordError) as raised:
        list(sequences(Chat(id="a", source="s", messages=messages, tools=tools), tokenizer))
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("deepseek_r1_distill", "does not begin with its generation prompt"),
        ("glm4moe", "ends without a special token"),
    ],
)
def test_a_template_that_tells_no_answer_is_refused_before_training(tokenizer, name, told):
    """With the reason; a template of one's own may stand in its place."""
    tokenizer.chat_template = _template(name)
    with pytest.raises(SpecError, match=told):
        install(tokenizer, None)


def test_an_opening_by_the_assistant_is_learnt(tokenizer):
    """After what the template writes before an answer."""
    tokenizer.chat_template = _template("qwen2_5")
    record = Chat(id="a", source="s", messages=TALK[1:])
    (pieces,) = sequences(record, tokenizer)
    assert _texts(tokenizer, pieces) == [f"{TALK[i]['content']}<|im_end|>\n" for i in (1, 3)]
    assert tokenizer.decode(pieces[0].tokens).endswith("<|im_start|>assistant\n")


def test_every_end_of_a_turn_ends_an_answer(tokenizer):
    """The template's, the tokenizer's, and those that the model's configuration lists."""
    from transformers import GenerationConfig

    model = tiny(vocab_size=len(tokenizer))
    model.generation_config = GenerationConfig(eos_token_id=[7, 8])
    tokenizer.chat_template = _template("gemma3")
    assert end_of_turn(tokenizer) == "<end_of_turn>"
    assert ends(model, tokenizer) == [
        7, 8, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>"),
    ]  # fmt: skip
