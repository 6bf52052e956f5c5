"""Configurations of the processors and steps that score documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from engine import Config, Count, Share
from engine_corpus.judge.scores.examples import fault_of

Kind = Literal["email", "phone", "ip", "address", "key"]
"""A kind of personal or secret data."""
KINDS: tuple[Kind, ...] = ("email", "phone", "ip", "address", "key")
_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Group = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]


class PII(Config):
    """Finds personal and secret data, and masks it, drops its documents or only annotates them."""

    action: Literal["mask", "drop", "annotate"] = Field(
        "mask",
        description="What to do: `mask` puts placeholders such as `<EMAIL>` in its place, `drop` drops "
        "the document, `annotate` leaves it as it is.",
    )
    kinds: tuple[Kind, ...] = Field(
        KINDS,
        min_length=1,
        description="What to look for: e-mail addresses, telephone numbers, public IP addresses, "
        "postal addresses, and keys (API keys, tokens, private keys, passwords in URLs).",
    )

    def changes_texts(self) -> bool:
        """See :class:`engine.Config`."""
        return self.action == "mask"


class Toxicity(Config):
    """Drops documents that are probably profane, by the scorer of the evaluator `safety`."""

    threshold: Share = Field(
        0.5, description="Probability of profanity above which a document is dropped."
    )
    drop: bool = Field(True, description="Whether to drop; if not, documents are only annotated.")


class Quality(Config):
    """Scores documents by perplexity, diversity and safety, without dropping any."""

    reference: tuple[str, ...] = Field(
        (),
        description="Files and globs of text such as the corpus should have: text files, JSON lines "
        "and Parquet with `text`. A word model of it gives the perplexity.",
    )
    weights: tuple[_Weight, _Weight, _Weight] = Field(
        (0.5, 0.3, 0.2),
        description="Weights of perplexity, diversity and safety, scaled to a sum of 1. What has "
        "weight 0 is not computed.",
    )
    order: int = Field(3, ge=2, le=6, description="Length of the word model's n-grams, in words.")
    sample: Count = Field(
        500,
        ge=2,
        description="Number of n-grams at which documents are compared for diversity: the expected "
        "share of different ones among so many, drawn at random.",
    )

    @field_validator("weights")
    @classmethod
    def _some(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if not sum(weights):
            raise ValueError("all weights are 0; at least one must be above 0")
        return weights

    @model_validator(mode="after")
    def _referred(self) -> Quality:
        if self.weights[0] and not self.reference:
            raise ValueError(
                "`reference` is missing: name files of good text, or set the weight of perplexity to 0"
            )
        if self.reference and not self.weights[0]:
            raise ValueError("`reference` is not used, as the weight of perplexity is 0")
        return self

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: patterns that match no file."""
        return _unmatched(self, ("reference",))

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return self.reference


class Classifier(Config):
    """Scores documents by a linear classifier of hashed n-grams: trained here, or from a folder."""

    folder: str | None = Field(None, description="Folder of saved weights, instead of examples.")
    good: tuple[str, ...] = Field(
        (),
        description="Files and globs of good examples: text files, JSON lines and Parquet with `text`.",
    )
    bad: tuple[str, ...] = Field((), description="Files and globs of bad examples.")
    ngrams: Literal["words", "characters"] = Field("words", description="Units of n-grams.")
    order: int = Field(
        2, ge=1, le=6, description="Length of the longest n-grams, in words or characters."
    )
    features: Count = Field(
        2**18, ge=2, le=2**24, description="Number of hash buckets, each with a weight."
    )
    threshold: Share | None = Field(
        None, description="Lowest score of documents to keep; without it none is dropped."
    )
    drop: bool = Field(True, description="Whether to drop; if not, documents are only annotated.")

    @model_validator(mode="after")
    def _either(self) -> Classifier:
        """Raises ValueError unless there is either a folder or examples of both kinds."""
        if self.folder is None and not (self.good and self.bad):
            raise ValueError("give examples of both kinds in `good` and `bad`, or a `folder`")
        beside = self.model_fields_set & {"good", "bad", "ngrams", "order", "features"}
        if self.folder is not None and beside:
            named = ", ".join(f"`{name}`" for name in sorted(beside))
            raise ValueError(f"`folder` holds a trained classifier: leave out {named}")
        if self.threshold is None and not self.drop:
            raise ValueError("`drop: false` has no effect without `threshold`")
        return self

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: patterns that match no file."""
        return _unmatched(self, ("good", "bad"))

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (*self.good, *self.bad, *([self.folder] if self.folder else []))


class Mentions(Config):
    """Annotates which groups of words documents mention, so that rules can be compared by group."""

    groups: dict[_Group, Annotated[tuple[_Word, ...], Field(min_length=1)]] = Field(
        min_length=1,
        description="Words and phrases of each group; a document that has one of them, as whole words "
        "and in any case, has `true` in the column `mentions_NAME`.",
    )


def _unmatched(config: Config, fields: Sequence[str]) -> dict[str, str]:
    """For each field the first of its patterns that leads to no file."""
    found = {name: fault_of(getattr(config, name)) for name in fields}
    return {name: wrong for name, wrong in found.items() if wrong}
