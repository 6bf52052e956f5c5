"""Prompts and answers as tokens, alike in training, rollouts, rewards and scores.

With a chat template they are turns of a conversation; without one, plain text, as one message of the
user and one of the assistant are, too. Where a template rewrites earlier turns, an answer is taken from
the conversation as it was at that turn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from engine.data.records import Messages, Said, Tools
from engine.encoding import boundary, encoder, opening
from engine.errors import SpecError
from engine.rendering import PROBE, QUESTION, Conversation, Piece, RecordError


def prompt_tokens(tokenizer: Any, prompt: Said, tools: Tools | None = None) -> list[int]:
    """The tokens before the answer, with all that asks for it. Raises RecordError."""
    if tokenizer.chat_template is None:
        ids = encoder(tokenizer).text(_only_text(prompt, "user", tools))
        return [*opening(tokenizer), *ids] or [boundary(tokenizer)]
    talk = Conversation(tokenizer, _turns(prompt, "user"), tools)
    return [token for piece in talk.asked() for token in piece.tokens]


def example_tokens(
    tokenizer: Any, prompt: Said, answer: Said, tools: Tools | None = None
) -> tuple[list[int], list[int]]:
    """The tokens of a prompt, and of its answer with what ends it. Raises RecordError."""
    if tokenizer.chat_template is None:
        texts = [_only_text(prompt, "user", tools), _only_text(answer, "assistant")]
        first, last = encoder(tokenizer).parts(texts)
        before = [*opening(tokenizer), *first] or [boundary(tokenizer)]
        return before, [*last, tokenizer.eos_token_id]
    asking, after = _turns(prompt, "user"), _turns(answer, "assistant")
    if [message.get("role") for message in after] != ["assistant"]:
        raise RecordError("whose answer is not one message of the assistant")
    *read, own = Conversation(tokenizer, [*asking, *after], tools).answered(len(asking))
    return [token for piece in read for token in piece.tokens], own.tokens


def conversation_pieces(
    tokenizer: Any, messages: Messages, tools: Tools | None = None
) -> list[list[Piece]]:
    """What a conversation gives to learn: itself, with all of its answers, and its beginning up to each
    answer that the template writes otherwise once turns follow.

    Every answer is in one of them as a piece of its own. Raises RecordError, and SpecError without a
    template.
    """
    if tokenizer.chat_template is None:
        raise SpecError(
            "conversations cannot be encoded: the tokenizer's chat template is missing",
            mend="set objective.template, e.g. to chatml",
        )
    talk = Conversation(tokenizer, list(messages), tools)
    answers = [i for i, m in enumerate(messages) if m.get("role") == "assistant"]
    if not answers:
        return []
    for i in answers:
        talk.check(i + 1)
    whole = talk.answered(answers[-1])
    there = {piece.turn for piece in whole}
    return [whole, *(talk.answered(i) for i in answers if i not in there)]


def ends(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends what a model writes: those that its generation configuration lists, the
    tokenizer's EOS, and the one by which the chat template ends an answer."""
    listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found = [listed] if isinstance(listed, int) else list(listed or ())
    names = dict.fromkeys(name for name in (tokenizer.eos_token, end_of_turn(tokenizer)) if name)
    return list(dict.fromkeys([*found, *tokenizer.convert_tokens_to_ids(list(names))]))


@lru_cache(maxsize=32)
def _end_of_turn(tokenizer: Any, template: str) -> str | None:
    talk = Conversation(tokenizer, [QUESTION, {"role": "assistant", "content": PROBE}], None)
    try:
        said = talk.render(2).text
    except RecordError:
        return None
    return encoder(tokenizer).first_special(said.rpartition(PROBE)[2])


def end_of_turn(tokenizer: Any) -> str | None:
    """The token by which the chat template ends an answer; EOS without a template. None where no
    special token ends it, or the template cannot say a question and its answer."""
    if tokenizer.chat_template is None:
        eos: str | None = tokenizer.eos_token
        return eos
    return _end_of_turn(tokenizer, json.dumps(tokenizer.chat_template))


def _turns(said: Said, role: str) -> list[Mapping[str, Any]]:
    return [{"role": role, "content": said}] if isinstance(said, str) else list(said)


def _only_text(said: Said, role: str, tools: Tools | None = None) -> str:
    """What is said in plain text. Raises SpecError for more than that."""
    text = said if isinstance(said, str) else _only_content(said, role)
    if text is None or tools:
        raise SpecError(
            "messages cannot be encoded: the tokenizer has no chat template, and they are more than a "
            "question and its answer in plain text",
            mend="train it first with an `objective.template`, e.g. chatml, which then stays with it",
        )
    return text


def _only_content(messages: Messages, role: str) -> str | None:
    """The text of the only message, where it is of this role and has nothing else."""
    if len(messages) != 1:
        return None
    told = {name: value for name, value in messages[0].items() if value or name == "content"}
    content = told.get("content")
    alone = isinstance(content, str) and told == {"role": role, "content": content}
    return content if alone else None
