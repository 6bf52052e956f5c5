"""Normalises the turns of conversations from the various forms in data sets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine import json_of

Turn = dict[str, Any]

ROLES: Mapping[str, str] = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
"""Other names for the roles of chat templates."""
_CALLS = frozenset({"function_call", "function-call", "tool_call"})
_SPEAKERS = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_TRUTH: Mapping[Any, bool] = {
    0: False,
    1: True,
    "0": False,
    "1": True,
    "false": False,
    "true": True,
}


class ShapeError(Exception):
    """A row does not fit a shape: ``what`` says why; failures are counted by ``reason``."""

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        self.what = what
        super().__init__(what)


def turns(column: str, given: Any) -> list[Turn]:
    """Messages with ``role`` and ``content``, from a list of turns or a single turn."""
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, list):
        told = f"'{column}' is {type(given).__name__}, not a list of turns"
        raise ShapeError("wrong-type", told)
    return [_turn(one) for one in given]


def text_or_turns(column: str, given: Any) -> str | list[Turn]:
    """A text unchanged, or turns as messages."""
    if not isinstance(given, str | list | Mapping):
        told = f"'{column}' is {type(given).__name__}, neither text nor a list of turns"
        raise ShapeError("wrong-type", told)
    return given if isinstance(given, str) else turns(column, given)


def prompt_and_answers(prompt: Any, chosen: Any, rejected: Any) -> dict[str, Any]:
    """A preference's prompt and answers. Texts stay as they are; of conversations, the turns that both
    begin with become the prompt.

    A prompt that the answers repeat is taken once.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        if prompt is None:
            raise ShapeError("wrong-shape", "two texts without a prompt, and no dialogues")
        if isinstance(prompt, str):
            return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    pair = [_answer("chosen", chosen), _answer("rejected", rejected)]
    shared = _shared(*pair)
    pair = [answer[len(shared) :] for answer in pair]
    if any(not _is_answer(answer) for answer in pair):
        raise ShapeError("prompts-differ", "chosen and rejected differ before their last answers")
    if isinstance(prompt, str):
        before = shared or [{"role": "user", "content": prompt}]
    else:
        given = turns("prompt", prompt or [])
        before = shared if shared[: len(given)] == given else [*given, *shared]
    if not before:
        raise ShapeError("wrong-shape", "no prompt: chosen and rejected share no first turn")
    return {"prompt": before, "chosen": pair[0], "rejected": pair[1]}


def is_dialogue(text: Any) -> bool:
    """Whether a text begins with a speaker, as in Anthropic's HH data."""
    return isinstance(text, str) and _SPEAKERS.match(text) is not None


def dialogue(text: str) -> list[Turn]:
    """The turns of ``\\n\\nHuman: … \\n\\nAssistant: …``."""
    _, *parts = _SPEAKERS.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": words.strip()}
        for speaker, words in zip(parts[::2], parts[1::2], strict=True)
    ]


def boolean(column: str, value: Any) -> bool:
    """Parses a boolean, 0 or 1, also as text."""
    key = value.strip().lower() if isinstance(value, str) else value
    if isinstance(key, str | int | float) and key in _TRUTH:
        return _TRUTH[key]
    raise ShapeError("wrong-type", f"{column} is {value!r}, neither true or false nor 0 or 1")


def tools(given: Any) -> Any:
    """A row's ``tools``, or None; many data sets store them as JSON text."""
    if isinstance(given, str) and given.strip():
        try:
            given = json_of(given)
        except ValueError:
            raise ShapeError("wrong-type", "tools is text, but not JSON") from None
    return given or None


def _turn(given: Any) -> Turn:
    if not isinstance(given, Mapping):
        raise ShapeError("wrong-type", f"a turn is {type(given).__name__}, not an object")
    role_key = "role" if "role" in given else "from"
    content_key = "content" if "content" in given or "value" not in given else "value"
    role = given.get(role_key)
    if not isinstance(role, str):
        raise ShapeError("wrong-type", "a turn without a role (`role` or `from`)")
    rest = {k: v for k, v in given.items() if k not in (role_key, content_key)}
    content = given.get(content_key)
    plain = role.strip().lower()
    if plain in _CALLS:
        return {"role": "assistant", "content": None, "tool_calls": _calls(content), **rest}
    role = ROLES.get(plain, plain if plain in ("user", "assistant", "system", "tool") else role)
    return {"role": role, "content": content, **rest}


def _calls(content: Any) -> list[dict[str, Any]]:
    """Converts ShareGPT's text of one tool call or a list of them to chat templates' form."""
    try:
        calls = json_of(content)
        calls = calls if isinstance(calls, list) else [calls]
        found = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
    except (ValueError, TypeError, KeyError):
        told = "a function call that is not JSON with `name` and `arguments`"
        raise ShapeError("wrong-type", told) from None
    return [{"type": "function", "function": call} for call in found]


def _answer(column: str, given: Any) -> list[Turn]:
    answer = text_or_turns(column, given)
    return [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer


def _shared(one: list[Turn], other: list[Turn]) -> list[Turn]:
    """The turns that both begin with, except the last turn of either."""
    most = min(len(one), len(other)) - 1
    differ = (n for n in range(most) if one[n] != other[n])
    return one[: next(differ, max(most, 0))]


def _is_answer(answer: list[Turn]) -> bool:
    """Whether these are turns of the assistant and its tools, starting with the assistant."""
    roles = [turn["role"] for turn in answer]
    return roles[:1] == ["assistant"] and set(roles) <= {"assistant", "tool"}
