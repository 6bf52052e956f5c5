"""Configuration of the deduplication of passages."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from engine import Config, Count


class SubstringDedup(Config):
    """Cuts passages of many words out of all documents but one that have them."""

    removes_copies: ClassVar = True

    words: Count = Field(
        50, description="Length of the shortest passage to cut, in words between white space."
    )
    ignore: tuple[Literal["case"], ...] = Field(
        (),
        description="Differences to ignore when comparing words; the kind and amount of white space "
        "between words never counts.",
    )

    def changes_texts(self) -> bool:
        """See :class:`engine.Config`."""
        return True
