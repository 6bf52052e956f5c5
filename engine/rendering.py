"""Conversations as chat templates write them, cut into what the model reads and what it writes.

What the model wrote is found by rendering prefixes: what the template makes of the turns before an
answer, and asks it with, must begin what it makes of them with the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from engine.data.records import Messages, Tools
from engine.deadline import time_limit
from engine.encoding import encoder
from engine.errors import RunError

PROBE = "A1b2C3"
QUESTION = {"role": "user", "content": "What?"}
_ENDLESS = "look at its `chat_template`: it may have been made to run for ever"
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class RecordError(RunError):
    """A record that cannot be encoded rightly. ``reason`` is the same for all of its kind."""

    def __init__(self, reason: str, told: str = "") -> None:
        super().__init__(f"a record {reason}{told and ': '}{told}")
        self.reason, self.told = reason, told


@dataclass(frozen=True, slots=True)
class Piece:
    """Some tokens: those of the answer that is the conversation's ``turn``-th message, or only read."""

    tokens: list[int]
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A text, and where in it the answers are that the template marks by ``{% generation %}``."""

    text: str
    marks: Sequence[tuple[int, int]]


class Conversation:
    """Messages as a chat template writes them. Raises RecordError."""

    def __init__(self, tokenizer: Any, messages: Messages, tools: Tools | None) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder(tokenizer)
        if self._encoder.has_private(
            json.dumps([*messages, tools], ensure_ascii=False, default=str)
        ):
            raise RecordError("with private characters of Unicode's planes 15 or 16")
        self._messages = [self._encoder.spelled(_plain(message)) for message in messages]
        self._tools = self._encoder.spelled(tools) if tools else None
        self._known: dict[tuple[int, bool], Rendered] = {}

    def render(self, count: int, *, ask: bool = False) -> Rendered:
        """The first messages; ``ask``, with what asks for an answer."""
        if (count, ask) not in self._known:
            self._known[count, ask] = self._made(self._messages[:count], ask=ask)
        return self._known[count, ask]

    def asked(self) -> list[Piece]:
        """The pieces of all messages and what asks for one more."""
        count = len(self._messages)
        self.check(count)
        return self._pieces(self.render(count, ask=True), count)

    def answered(self, turn: int) -> list[Piece]:
        """The pieces up to this answer, which is the last of them."""
        self.check(turn + 1)
        pieces = self._pieces(self.render(turn + 1), turn + 1)
        while pieces and pieces[-1].turn is None:
            pieces.pop()
        if not pieces or pieces[-1].turn != turn:
            if self._start(self.render(turn + 1).text, turn) is None:
                raise RecordError(
                    "whose answer the chat template begins otherwise than it asks for one"
                )
            raise RecordError("whose answer the chat template ends without a token to stop at")
        return pieces

    def _pieces(self, whole: Rendered, count: int) -> list[Piece]:
        """A rendered text cut at its answers."""
        places = list(self._answers(whole, count))
        cuts = [edge for _, start, end in places for edge in (start, end)]
        tokens = self._encoder.rendered(whole.text, cuts)
        turns = [t for turn, _, _ in places for t in (None, turn)] + [None]
        return [Piece(t, turn) for t, turn in zip(tokens, turns, strict=True) if t]

    def _answers(self, whole: Rendered, count: int) -> Iterator[tuple[int, int, int]]:
        """Each answer among the first messages that a rendered text has as it was written: its number,
        where it starts, and where it ends."""
        turns = [i for i in range(count) if self._messages[i]["role"] == "assistant"]
        marked = len(whole.marks) == len(turns)
        for number, turn in enumerate(turns):
            start = self._start(whole.text, turn)
            end = None if start is None else self._end(whole.text, turn, start)
            if start is None or end is None:
                continue
            if marked and start <= whole.marks[number][0]:
                end = min(end, whole.marks[number][1])
            yield turn, start, end

    def _start(self, text: str, turn: int) -> int | None:
        """Where an answer starts; None where the text does not begin as the model was asked."""
        if turn:
            asked = self.render(turn, ask=True).text
        else:
            asked = self._made([{"role": "assistant", "content": PROBE}]).text.partition(PROBE)[0]
            question = self._made([QUESTION]).text
            if not asked.endswith(self._made([QUESTION], ask=True).text.removeprefix(question)):
                return None
        return len(asked) if text.startswith(asked) else None

    def _end(self, text: str, turn: int, start: int) -> int | None:
        """Where an answer ends, with the token that ends it; None where it is not as at its turn.

        Some templates close the whole conversation by one more token, which later turns push on.
        """
        own = self.render(turn + 1).text
        common = len(own) if text.startswith(own) else len(commonprefix([text, own]))  # noqa: RUF071 - of characters
        last = self._encoder.last_special(text[start:common])
        if last is None:
            return None
        end = start + last.end()
        end += len(text[end:common]) - len(text[end:common].lstrip())
        return end if self._encoder.only_special(own[end:]) else None

    def _made(self, messages: Messages, *, ask: bool = False) -> Rendered:
        from transformers.utils.chat_template_utils import render_jinja_template

        template = self._tokenizer.get_chat_template(tools=self._tools)
        marked = _MARK.search(template) is not None
        try:
            with time_limit("a tokenizer's chat template", _ENDLESS):
                made: Any = render_jinja_template(
                    conversations=[[dict(message) for message in messages]],
                    tools=self._tools,
                    chat_template=template,
                    add_generation_prompt=ask,
                    return_assistant_tokens_mask=marked,
                    **self._tokenizer.special_tokens_map,
                )
        except RunError:
            raise
        except Exception as error:  # templates are programs, and may raise anything
            raise RecordError("that the chat template refuses", str(error)) from error
        texts, spans = made
        return Rendered(texts[0], spans[0] if marked else ())

    def check(self, count: int) -> None:
        """Raises RecordError where the template leaves out what one of the first messages says; but it
        may drop what the assistant thought at earlier turns than the last."""
        text, messages = self.render(count).text, self._messages[:count]
        squeezed = "".join(text.split())
        for number, message in enumerate(messages, 1):
            if number < count and message["role"] == "assistant":
                continue
            where, said = squeezed, [message["content"], message.get("reasoning_content", "")]
            if calls := message.get("tool_calls"):  # whose names the tools have, too
                said += [call.get("function", call)["name"] for call in calls]
                where = squeezed[len("".join(self.render(number - 1).text.split())) :]
            for one in ("".join(part.split()) for part in said):
                if one not in where and json.dumps(one, ensure_ascii=False)[1:-1] not in where:
                    role = message["role"]
                    raise RecordError(
                        f"of whose turns ({role}) the chat template leaves out a part"
                    )
        if self._tools and not all(_name(tool) in text for tool in self._tools):
            raise RecordError("whose tools the chat template leaves out")


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with its content as one text, and arguments of its tool calls as objects, which is
    what templates write. Raises RecordError for parts that are no text."""
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        other = {p.get("type", "text") for p in content if "text" not in p}
        if other:
            raise RecordError(f"with content of type {', '.join(sorted(other))}, not text")
        content = "".join(part["text"] for part in content)
    calls = message.get("tool_calls")
    if content is None and (calls or message.get("reasoning_content")):
        content = ""
    if not isinstance(message.get("role"), str) or not isinstance(content, str):
        raise RecordError("with a message without a role and a content, both text")
    made = {k: v for k, v in message.items() if v is not None} | {"content": content}
    if calls:
        made["tool_calls"] = [_call(call) for call in calls]
    return made


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call whose arguments are an object; the services write them as a text of JSON."""
    function = call.get("function", call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise RecordError("with a tool call whose arguments are not JSON") from None
    function = {**function, "arguments": arguments}
    return {**call, "function": function} if "function" in call else function


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("function", tool).get("name", ""))
