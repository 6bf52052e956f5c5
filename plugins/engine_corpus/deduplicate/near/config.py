"""Configuration of near-deduplication."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os.path import expanduser
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from engine import Config, Count, Share


class NearDedup(Config):
    """Drops a document that is similar to one that stays."""

    removes_copies: ClassVar = True

    threshold: Share = Field(
        0.8,
        gt=0,
        le=1,
        description="Lowest Jaccard similarity of two documents' sets of shingles at which one falls.",
    )
    shingle_words: Count = Field(
        5, le=64, description="Words of a shingle, a sequence of consecutive words."
    )
    permutations: Count = Field(
        128,
        le=4096,
        description="Permutations of a document's MinHash signature at most; more of them propose "
        "pairs more sharply, and take more time.",
    )
    against: tuple[str, ...] = Field(
        (),
        description="Folders of corpora that were prepared before, such as `runs/older/corpus`: what "
        "is similar to one of their documents falls.",
    )

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: folders that are no prepared corpora."""
        for folder in self.against:
            if not (Path(expanduser(folder)) / "card.json").is_file():
                return {
                    "against": f"{folder} is no prepared corpus, as it has no card.json: name the "
                    "folder of a finished prepare stage, RUN/STAGE"
                }
        return {}

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return self.against
