"""Chat templates: the built-in ones, and what training asks of any.

A template is Jinja text in transformers' dialect; ``{% generation %}`` marks what the model writes, for
other trainers, and where what is learnt ends.
The built-in ones name no token but EOS, so they work with every tokenizer. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from engine import RecordError, SpecError, example_tokens

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


def install(tokenizer: Any, template: str | None) -> None:
    """Gives the tokenizer this template, by name or as a text. Raises SpecError.

    Also where it has one of its own: it must begin an answer as it asks for one, and end it with a
    token at which the model can stop.
    """
    if template is not None:
        tokenizer.chat_template = BUILT_IN.get(template, template)
    if tokenizer.chat_template is None:
        return
    try:
        example_tokens(tokenizer, "What?", "This.")
    except RecordError as error:
        told = error.told or f"a question with its answer is {error.what}"
        raise SpecError(
            f"the chat template cannot be used: {told}",
            mend="set objective.template to a built-in one, or to a template of your own",
        ) from error
