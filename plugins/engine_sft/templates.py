"""Chat templates: the built-in ones, and a check of any template before training.

A template is Jinja text in transformers' dialect. ``{% generation %}`` marks what the model writes, for
other trainers, and where the learnt text ends. The built-in templates use no special token but EOS, so
they work with every tokenizer. Importing this module is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from engine import SpecError
from engine.modeling import RecordError, example_tokens

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
    """A template that opens messages with their role inside ``opening``; answers end with EOS, other
    messages with ``close``."""
    before, after = map(repr, opening)
    return (
        _EACH.replace("OPEN", f"{before} + message['role'] + {after}")
        .replace("CLOSE", close)
        .replace("BETWEEN", repr(between))
        .replace("ANSWER", repr("assistant".join(opening)))
    )


BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        # The same as Qwen's if EOS is <|im_end|>.
        "chatml": _template(("<|im_start|>", "\n"), "eos_token", "\n"),
        "plain": _template(("### ", "\n"), "''", "\n\n"),
    }
)


def install(tokenizer: Any, template: str | None) -> None:
    """Sets the tokenizer's template, by name or as text. Raises SpecError for an unusable one.

    The tokenizer's own template is checked as well: the generation prompt must be how an answer begins,
    and an answer must end with a token at which the model can stop.
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
            hint="set objective.template to a built-in one, or to a template of your own",
        ) from error
