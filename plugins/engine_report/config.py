"""Configuration of this plugin's evaluator."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from engine import Count, EvaluatorConfig, Number


class Samples(EvaluatorConfig):
    """Texts that the model writes after a few prompts, for people to read."""

    asks_known_items: ClassVar = False

    prompts: tuple[str, ...] = Field(min_length=1, description="Texts that the model goes on from.")
    chat: bool = Field(
        False,
        description="Ask each prompt as a user's message, by the model's chat template; without a "
        "template it goes on from the plain text.",
    )
    max_tokens: Count = Field(64, description="Longest text, in tokens.")
    temperature: Number = Field(
        0.0, ge=0, description="Temperature of sampling; 0 takes the likeliest token."
    )
