"""Renders conversations with a chat template, cut into what the model reads and what it writes.

Answers are found by rendering prefixes: the turns before an answer, rendered with the generation
prompt, must be a prefix of the rendering that includes the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from engine.contracts.records import Messages, Tools
from engine.deadline import time_limit
from engine.errors import RunError
from engine.files.reading import json_of
from engine.modeling.encoding import encoder

PROBE = "A1b2C3"
QUESTION = {"role": "user", "content": "What?"}
_ENDLESS = "check its `chat_template`: it may loop for ever"
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class RecordError(RunError):
    """A record that cannot be encoded correctly; ``reason`` is the same for all records of its kind."""

    def __init__(self, reason: str, told: str = "") -> None:
        super().__init__(f"a record {reason}{told and ': '}{told}")
        self.reason, self.told = reason, told


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that the model writes, as its answer in message number ``turn``, or only reads (None)."""

    tokens: list[int]
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered text, and the (start, end) of each answer that it marks by ``{% generation %}``."""

    text: str
    marks: Sequence[tuple[int, int]]


class Conversation:
    """Messages rendered by a chat template. Raises RecordError."""

    def __init__(self, tokenizer: Any, messages: Messages, tools: Tools | None) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder(tokenizer)
        if self._encoder.has_private(
            json.dumps([*messages, tools], ensure_ascii=False, default=str)
        ):
            raise RecordError("with private-use characters of Unicode planes 15 or 16")
        self._messages = [self._encoder.spelled(_plain(message)) for message in messages]
        self._tools = self._encoder.spelled(tools) if tools else None
        self._known: dict[tuple[int, bool], Rendered] = {}

    def render(self, count: int, *, ask: bool = False) -> Rendered:
        """Renders the first ``count`` messages; with ``ask``, followed by the generation prompt."""
        if (count, ask) not in self._known:
            self._known[count, ask] = self._apply_template(self._messages[:count], ask=ask)
        return self._known[count, ask]

    def asked(self) -> list[Piece]:
        """The pieces of all messages and the generation prompt."""
        count = len(self._messages)
        self.check(count)
        return self._pieces(self.render(count, ask=True), count)

    def answered(self, turn: int) -> list[Piece]:
        """The pieces up to the answer in message number ``turn``, which is the last piece."""
        self.check(turn + 1)
        pieces = self._pieces(self.render(turn + 1), turn + 1)
        while pieces and pieces[-1].turn is None:
            pieces.pop()
        if not pieces or pieces[-1].turn != turn:
            if self._start(self.render(turn + 1).text, turn) is None:
                raise RecordError(
                    "whose answer the chat template does not begin with its generation prompt"
                )
            raise RecordError("whose answer the chat template ends without a special token")
        return pieces

    def _pieces(self, whole: Rendered, count: int) -> list[Piece]:
        """A rendered text, cut at its answers."""
        places = list(self._answers(whole, count))
        cuts = [edge for _, start, end in places for edge in (start, end)]
        tokens = self._encoder.rendered(whole.text, cuts)
        turns = [t for turn, _, _ in places for t in (None, turn)] + [None]
        return [Piece(t, turn) for t, turn in zip(tokens, turns, strict=True) if t]

    def _answers(self, whole: Rendered, count: int) -> Iterator[tuple[int, int, int]]:
        """The message number, start and end of each answer among the first ``count`` messages that the
        rendered text still has as the model wrote it."""
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
        """Where an answer starts; None if the text does not begin with what the model had read."""
        if turn:
            asked = self.render(turn, ask=True).text
        else:
            probe = self._apply_template([{"role": "assistant", "content": PROBE}])
            asked = probe.text.partition(PROBE)[0]
            question = self._apply_template([QUESTION]).text
            asking = self._apply_template([QUESTION], ask=True).text
            if not asked.endswith(asking.removeprefix(question)):
                return None
        return len(asked) if text.startswith(asked) else None

    def _end(self, text: str, turn: int, start: int) -> int | None:
        """Where an answer ends, with its end token; None if the text no longer has it as at its turn.

        Some templates end the whole conversation with one more token, which comes after later turns.
        """
        own = self.render(turn + 1).text
        common = len(own) if text.startswith(own) else len(commonprefix([text, own]))  # noqa: RUF071 - of characters
        last = self._encoder.last_special(text[start:common])
        if last is None:
            return None
        end = start + last.end()
        end += len(text[end:common]) - len(text[end:common].lstrip())
        return end if self._encoder.only_special(own[end:]) else None

    def _apply_template(self, messages: Messages, *, ask: bool = False) -> Rendered:
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
        except Exception as error:  # templates are programs and may raise anything
            raise RecordError("that the chat template refuses", str(error)) from error
        texts, spans = made
        return Rendered(texts[0], spans[0] if marked else ())

    def check(self, count: int) -> None:
        """Raises RecordError if the template leaves out part of one of the first ``count`` messages,
        except answers before the last, whose reasoning it may drop."""
        text, messages = self.render(count).text, self._messages[:count]
        squeezed = "".join(text.split())
        for number, message in enumerate(messages, 1):
            if number < count and message["role"] == "assistant":
                continue
            where, said = squeezed, [message["content"], message.get("reasoning_content", "")]
            if calls := message.get(
                "tool_calls"
            ):  # searched after the tools, which have the names too
                said += [call.get("function", call)["name"] for call in calls]
                where = squeezed[len("".join(self.render(number - 1).text.split())) :]
            for one in ("".join(part.split()) for part in said):
                if one not in where and json.dumps(one, ensure_ascii=False)[1:-1] not in where:
                    role = message["role"]
                    raise RecordError(
                        f"with a turn ({role}) of which the chat template omits a part"
                    )
        if self._tools and not all(_name(tool) in text for tool in self._tools):
            raise RecordError("whose tools the chat template omits")


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with its content as one text and the arguments of its tool calls as objects, as
    templates expect them. Raises RecordError for parts that are not text."""
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
        raise RecordError("with a message whose role or content is not text")
    made = {k: v for k, v in message.items() if v is not None} | {"content": content}
    if calls:
        made["tool_calls"] = [_call(call) for call in calls]
    return made


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments as an object; chat APIs give them as a JSON string."""
    function = call.get("function", call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json_of(arguments)
        except ValueError:
            raise RecordError("with a tool call whose arguments are not JSON") from None
    function = {**function, "arguments": arguments}
    return {**call, "function": function} if "function" in call else function


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool.get("function", tool).get("name", ""))
