"""The commands ``generate`` and ``chat``: a continuation of one text, or a conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.text import Text

from engine import (
    Generation,
    Terminal,
    cleaned,
    open_stage,
    write_cleaned,
)
from engine.modeling import prompt_tokens, readable


def generate(
    path: Path, as_json: bool, *, prompt: str, stop: tuple[str, ...], **options: Any
) -> None:
    """Prints the prompt and its continuation token by token, or one JSON object."""
    lm = open_stage(path).language_model()
    prompt, stop = _typed(prompt), tuple(map(_typed, stop))
    request = Generation(prompt, stop=stop, **options)
    if as_json:
        response = lm.generate(request)
        print(json.dumps({"prompt": prompt, "text": response.text, "tokens": response.tokens}))  # noqa: T201
        return
    console = Terminal()
    console.print(Text(cleaned(prompt), style="bold"), end="")
    lm.generate(request, write_cleaned)
    console.print()


def chat(path: Path, max_tokens: int, temperature: float, seed: int) -> None:
    """Answers each line of input until its end. Without a chat template the conversation is one plain
    text, as a base model expects."""
    lm = open_stage(path).language_model()
    console = Terminal()
    template = lm.tokenizer.chat_template is not None
    if not template:
        console.print("[dim]a base model: it continues your text (end with ctrl-D)[/]")
    messages: list[dict[str, str]] = []
    text = ""
    while True:
        try:
            line = _typed(console.input("[bold]> [/]"))
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        messages.append({"role": "user", "content": line})
        text += line
        said = readable(lm.tokenizer, messages)
        prompt = tuple(prompt_tokens(lm.tokenizer, said)) if template else text
        request = Generation(prompt, max_tokens, temperature=temperature, top_p=0.95, seed=seed)
        answer = lm.generate(request, write_cleaned).text
        console.print()
        messages.append({"role": "assistant", "content": answer})
        text += answer


def _typed(text: str) -> str:
    """Decodes typed text as UTF-8, whatever the terminal's encoding: bytes outside that encoding arrive
    as lone surrogates, which tokenizers reject."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
