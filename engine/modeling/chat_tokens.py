"""Encodes prompts and answers as tokens, the same way for training, rollouts, rewards and evaluation.

With a chat template they are turns of a conversation. Without one they are plain text, as is a single
message of the user or of the assistant. If a template rewrites earlier turns, each answer is taken
from the conversation that ends with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engine.contracts.batch import Example
from engine.contracts.records import Messages, Said, Tools
from engine.errors import SpecError
from engine.modeling.encoding import boundary, encoder, opening
from engine.modeling.packing import IGNORE
from engine.modeling.rendering import (
    PROBE,
    QUESTION,
    Conversation,
    Piece,
    RecordError,
)


def prompt_tokens(tokenizer: Any, prompt: Said, tools: Tools | None = None) -> list[int]:
    """Tokens of the prompt with the template's generation prompt.

    Raises RecordError, and SpecError if the tokenizer lacks the chat template that messages need.
    """
    if tokenizer.chat_template is None:
        ids = encoder(tokenizer).text(_only_text(prompt, "user", tools))
        return [*opening(tokenizer), *ids] or [boundary(tokenizer)]
    talk = Conversation(tokenizer, _turns(prompt, "user"), tools)
    return [token for piece in talk.asked() for token in piece.tokens]


def example_tokens(
    tokenizer: Any, prompt: Said, answer: Said, tools: Tools | None = None
) -> tuple[list[int], list[int]]:
    """Tokens of the prompt, and of its answer with its end token. Raises as :func:`prompt_tokens`."""
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


def answer_example(prompt: ArrayLike, answer: ArrayLike, **columns: ArrayLike) -> Example:
    """The training example of a prompt and an answer, from their token ids: T in all, N of the answer.

    The fields are arrays ``_T``. ``labels`` has each of the answer's tokens at the position before it,
    which predicts it, and ``IGNORE`` elsewhere. ``columns`` are numbers for the answer's tokens,
    ``_N``, optionally with one more for the position after them, ``_N+1``: each becomes a float32
    field, with the numbers where the labels are and zeros elsewhere. The prompt must not be empty.
    """
    prompt, answer = np.asarray(prompt, np.int64), np.asarray(answer, np.int64)
    tokens = np.concatenate([prompt, answer])
    first = len(prompt) - 1

    def placed(values: ArrayLike, row: Any) -> Any:
        values = np.asarray(values)
        row[first : first + len(values)] = values
        return row

    fields = {
        "input_ids": tokens,
        "position_ids": np.arange(len(tokens)),
        "labels": placed(answer, np.full(len(tokens), IGNORE)),
        **{
            name: placed(values, np.zeros(len(tokens), np.float32))
            for name, values in columns.items()
        },
    }
    return Example(len(tokens), fields)


def readable(tokenizer: Any, said: Any) -> Any:
    """Text or messages from a model or a terminal, made safe for the chat template: U+FFFD replaces the
    private-use characters for which a record would be refused."""
    return said if tokenizer.chat_template is None else encoder(tokenizer).public(said)


def conversation_pieces(
    tokenizer: Any, messages: Messages, tools: Tools | None = None
) -> list[list[Piece]]:
    """The sequences to learn from a conversation: the whole of it, and its beginning up to each answer
    that the template renders differently once more turns follow.

    Each answer is a separate piece of one sequence. Raises RecordError, and SpecError if the tokenizer
    has no chat template.
    """
    if tokenizer.chat_template is None:
        raise SpecError(
            "conversations cannot be encoded: the tokenizer's chat template is missing",
            hint="set objective.template, e.g. to chatml",
        )
    talk = Conversation(tokenizer, list(messages), tools)
    answers = [i for i, m in enumerate(messages) if m.get("role") == "assistant"]
    if not answers:
        return []
    for turn in answers:
        talk.check(turn + 1)
    whole = talk.answered(answers[-1])
    learnt = {piece.turn for piece in whole}
    return [whole, *(talk.answered(turn) for turn in answers if turn not in learnt)]


def ends(model: Any, tokenizer: Any) -> list[int]:
    """Ids of all tokens that end a model's output: those in its generation configuration, the
    tokenizer's EOS, and the chat template's end-of-turn token."""
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
    """The token with which the chat template ends an answer; EOS without a template. None if no special
    token ends it, or the template cannot render a question and its answer."""
    if tokenizer.chat_template is None:
        eos: str | None = tokenizer.eos_token
        return eos
    return _end_of_turn(tokenizer, json.dumps(tokenizer.chat_template))


def _turns(said: Said, role: str) -> list[Mapping[str, Any]]:
    return [{"role": role, "content": said}] if isinstance(said, str) else list(said)


def _only_text(said: Said, role: str, tools: Tools | None = None) -> str:
    """The text of a plain-text prompt or answer. Raises SpecError for anything else."""
    text = said if isinstance(said, str) else _only_content(said, role)
    if text is None or tools:
        raise SpecError(
            "messages cannot be encoded: the tokenizer has no chat template, and they are more than "
            "one plain-text question and its answer",
            hint="train the model first with an `objective.template`, e.g. chatml, which is saved with "
            "its tokenizer",
        )
    return text


def _only_content(messages: Messages, role: str) -> str | None:
    """The text of a single message that has this role and no further fields, else None."""
    if len(messages) != 1:
        return None
    fields = {name: value for name, value in messages[0].items() if value or name == "content"}
    content = fields.get("content")
    alone = isinstance(content, str) and fields == {"role": role, "content": content}
    return content if alone else None
