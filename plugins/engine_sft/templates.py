"""Chat templates: the built-in ones, and what training asks of any.

A template is Jinja text in transformers' dialect; ``{% generation %}`` marks what the model writes.
The built-in ones name no token but EOS, so they work with every tokenizer. Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from engine import SpecError, prompt_text

_EACH = """\
{%- for message in messages -%}
{{ OPEN }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + eos_token }}{%- endgeneration -%}
{%- else -%}
{{ message['content'] + CLOSE }}
{%- endif -%}
{{ BETWEEN }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ ANSWER }}{%- endif -%}
"""


def _template(opening: tuple[str, str], close: str, between: str) -> str:
    """Messages after ``opening``, their role in it; answers end with EOS, others with ``close``."""
    before, after = map(repr, opening)
    return (
        _EACH.replace("OPEN", f"{before} + message['role'] + {after}")
        .replace("CLOSE", close)
        .replace("BETWEEN", repr(between))
        .replace("ANSWER", repr("assistant".join(opening)))
    )


BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        # Qwen's form where EOS is its <|im_end|>.
        "chatml": _template(("<|im_start|>", "\n"), "eos_token", "\n"),
        "plain": _template(("### ", "\n"), "''", "\n\n"),
    }
)
_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = "A1b2C3"


def install(tokenizer: Any, template: str | None) -> None:
    """Gives the tokenizer this template, by name or as a text. Raises SpecError.

    Also where it has one of its own: the answer must end with EOS, or nothing would stop the model.
    """
    if template is not None:
        tokenizer.chat_template = BUILT_IN.get(template, template)
    if tokenizer.chat_template is None:
        return
    messages = [
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": _PROBE},
    ]
    try:
        prompt = prompt_text(tokenizer, "What?")
        whole: str = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # templates are programs, and may raise anything
        raise SpecError(f"the chat template cannot be used: {error}") from error
    if not whole.startswith(prompt):
        raise SpecError(
            "the chat template begins an answer otherwise than it asks for one: "
            f"{whole[: len(prompt) + 20]!r} does not begin with {prompt!r}",
            mend="let add_generation_prompt write what stands before every answer",
        )
    end = whole.rpartition(_PROBE)[2]
    if tokenizer.eos_token not in end:
        raise SpecError(
            f"the chat template ends an answer with {end!r}, without the tokenizer's EOS "
            f"{tokenizer.eos_token!r}: the model would not learn to stop",
            mend="set objective.template to a built-in one, or end answers with {{ eos_token }}",
        )


def marks_answers(template: str) -> bool:
    """Whether the template says which of its text is the model's."""
    return _MARK.search(template) is not None
