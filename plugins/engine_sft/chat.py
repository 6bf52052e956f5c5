"""Records as pieces of tokens, of which some are learnt.

Pieces are tokenized apart, as the model that answers a prompt sees only the prompt: so a completion
and the conversation that says the same give the same tokens, and no token is half an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine import Chat, Completion, RunError, SpecError, answer_tokens, prompt_tokens
from engine_sft.templates import marks_answers


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens, all of them learnt or none."""

    tokens: list[int]
    learnt: bool


def pieces(record: Chat | Completion, tokenizer: Any, turns: Literal["all", "last"]) -> list[Piece]:
    """The whole example, up to its last answer; without a learnt one where it has none.

    Raises SpecError for a conversation and a template that does not mark answers, RunError for one
    that the template cannot say.
    """
    if isinstance(record, Completion):
        prompt = prompt_tokens(tokenizer, record.prompt)
        return [Piece(prompt, False), Piece(answer_tokens(tokenizer, record.completion), True)]
    template = tokenizer.chat_template
    if template is None or not marks_answers(template):
        lacks = "does not mark answers by {% generation %}" if template else "is missing"
        raise SpecError(
            f"conversations cannot be learnt from: the tokenizer's chat template {lacks}",
            mend="set objective.template, e.g. to chatml",
        )
    messages = [plain(message, record.id) for message in record.messages]
    text, spans = _rendered(messages, tokenizer, record.id)
    answers = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    learnt = [i for i in answers[-1:] if turns == "last"] or answers
    wanted = [i in learnt and counts(record.messages[i]) for i in answers]
    if not any(wanted):
        return []
    if all(wanted):
        wanted = [True] * len(spans)
    if len(spans) != len(wanted):
        raise RunError(
            f"{record.id}: the chat template marks {len(spans)} answers of {len(wanted)}, "
            "so they cannot be told apart",
            mend="put one {% generation %} around each answer in objective.template",
        )
    made: list[Piece] = []
    at = 0
    for (start, end), learn in zip(spans, wanted, strict=True):
        made += (
            _piece(tokenizer, text[at:start], False),
            _piece(tokenizer, text[start:end], learn),
        )
        at = end
    while made and not made[-1].learnt:
        made.pop()
    return made


def plain(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The message with its content as one text. Raises RunError for parts that are no text."""
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        other = {p.get("type", "text") for p in content if "text" not in p}
        if other:
            raise RunError(
                f"{name}: a message has content of type {', '.join(sorted(other))}, not text",
                mend="leave such records out",
            )
        content = "".join(part["text"] for part in content)
    if not isinstance(message.get("role"), str) or not isinstance(content, str):
        raise RunError(
            f"{name}: a message needs a role and a content, both text, and has {dict(message)!r}",
            mend="mend the record, or leave it out",
        )
    return {**message, "content": content}


def counts(message: Mapping[str, Any]) -> bool:
    """Whether an answer is to be learnt: not with ``train: false``, or others' ``weight: 0``."""
    train, weight = message.get("train"), message.get("weight")
    return train is not False and (weight is None or weight != 0)


def _rendered(
    messages: Sequence[Mapping[str, Any]], tokenizer: Any, name: str
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as a text, and where in it the answers are."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, spans = render_jinja_template(
            conversations=[messages],
            chat_template=tokenizer.chat_template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    except Exception as error:  # templates are programs, and may raise anything
        raise RunError(
            f"{name}: the chat template cannot say this conversation: {error}",
            mend="mend the record, or leave it out",
        ) from error
    return texts[0], spans[0]


def _piece(tokenizer: Any, text: str, learnt: bool) -> Piece:
    return Piece(tokenizer.encode(text, add_special_tokens=False), learnt)
