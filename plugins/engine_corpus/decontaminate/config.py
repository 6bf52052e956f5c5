"""Configuration of the step ``decontaminate``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from engine import Config, Count


class Decontaminate(Config):
    """Finds the items of the spec's evaluators in documents."""

    searches_benchmarks: ClassVar[bool] = True

    words: Annotated[Count, Field(ge=5)] = Field(
        13,
        description="Length of the n-grams, in words: a document that has one of a question or a right "
        "answer is contaminated. Items without one are found by the whole question and answer.",
    )
    frequent: Count = Field(
        10,
        description="Most documents of a source in which an n-gram counts; those in more are taken for "
        "boilerplate, such as licences.",
    )
    near: Count = Field(
        50,
        description="Most words between a whole question and its answer.",
    )
    drop: bool = Field(
        True, description="Drop contaminated documents; otherwise they are only annotated."
    )
