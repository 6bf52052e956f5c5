"""Configurations of the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, StringConstraints, model_validator

from engine import Config, Count, Number, Share

NonNegative = Annotated[Number, Field(ge=0)]


class Rules(Config):
    """What all sets of rules over words have in common."""

    words: Literal["unicode", "whitespace"] = Field(
        "unicode",
        description="How text is split into words: `unicode` sets punctuation apart, and "
        "`whitespace` splits at white space alone, as the papers do.",
    )
    drop: bool = Field(
        True, description="Drop documents that break a rule; otherwise the rule is only named."
    )


class Gopher(Rules):
    """Rules for quality and repetition (Rae et al. 2021, section A.1.1 and table A1).

    No rule is broken at its limit. So 0 switches off a lower limit, and 1 an upper limit of a share.
    """

    min_words: NonNegativeInt = Field(
        50, description="Fewest words that do not consist of punctuation alone."
    )
    max_words: Count = Field(
        100_000, description="Most words that do not consist of punctuation alone."
    )
    min_mean_word_length: NonNegative = Field(
        3, description="Smallest mean length of these words, in characters."
    )
    max_mean_word_length: NonNegative = Field(
        10, description="Largest mean length of these words, in characters."
    )
    max_hashes: NonNegative = Field(0.1, description="Most number signs (`#`) per word.")
    max_ellipses: NonNegative = Field(0.1, description="Most ellipses (`...` and `…`) per word.")
    max_bullet_lines: Share = Field(
        0.9, description="Largest share of the lines that begin with `•` or `-`."
    )
    max_ellipsis_lines: Share = Field(
        0.3, description="Largest share of the lines that end with an ellipsis."
    )
    min_alphabetic_words: Share = Field(
        0.8, description="Smallest share of the words that have a letter."
    )
    min_stop_words: NonNegativeInt = Field(2, description="Fewest different words of `stop_words`.")
    stop_words: tuple[str, ...] = Field(
        ("the", "be", "to", "of", "and", "that", "have", "with"),
        description="Words that a text in the wanted language has, compared with case.",
    )
    max_duplicate_paragraphs: Share = Field(
        0.30, description="Largest share of the paragraphs that repeat an earlier one."
    )
    max_duplicate_paragraph_characters: Share = Field(
        0.20, description="Largest share of the characters in such paragraphs."
    )
    max_duplicate_lines: Share = Field(
        0.30, description="Largest share of the lines that repeat an earlier one."
    )
    max_duplicate_line_characters: Share = Field(
        0.20, description="Largest share of the characters in such lines."
    )
    max_top_2_gram: NonNegative = Field(
        0.20, description="Largest share of the characters in the most frequent two words."
    )
    max_top_3_gram: NonNegative = Field(
        0.18, description="Largest share of the characters in the most frequent three words."
    )
    max_top_4_gram: NonNegative = Field(
        0.16, description="Largest share of the characters in the most frequent four words."
    )
    max_duplicate_5_grams: Share = Field(
        0.15, description="Largest share of the characters in repeated sequences of five words."
    )
    max_duplicate_6_grams: Share = Field(
        0.14, description="Largest share of the characters in repeated sequences of six words."
    )
    max_duplicate_7_grams: Share = Field(
        0.13, description="Largest share of the characters in repeated sequences of seven words."
    )
    max_duplicate_8_grams: Share = Field(
        0.12, description="Largest share of the characters in repeated sequences of eight words."
    )
    max_duplicate_9_grams: Share = Field(
        0.11, description="Largest share of the characters in repeated sequences of nine words."
    )
    max_duplicate_10_grams: Share = Field(
        0.10, description="Largest share of the characters in repeated sequences of ten words."
    )


class C4(Rules):
    """Cleaning rules (Raffel et al. 2020, section 2.2): lines that break one are removed.

    Words of a line are those between white space, as in the paper; `words` is how sentences are found.
    """

    split: Literal["lines", "sentences"] = Field(
        "lines", description="Pieces of text that the rules keep or remove."
    )
    remove_citations: bool = Field(
        True, description="Remove marks of citations and edits, such as `[3]` and `[edit]`."
    )
    require_terminal_punctuation: bool = Field(
        True,
        description="Remove lines that end without one of the marks `.?!\"'`, or with `...`.",
    )
    min_words_per_line: NonNegativeInt = Field(3, description="Fewest words of a line.")
    max_word_length: Count = Field(1000, description="Longest word of a line, in characters.")
    drop_lorem_ipsum: bool = Field(
        True, description="Drop documents with the phrase `lorem ipsum`."
    )
    remove_javascript: bool = Field(True, description="Remove lines that mention JavaScript.")
    drop_curly_brackets: bool = Field(True, description="Drop documents with a `{`.")
    remove_policies: bool = Field(
        True,
        description="Remove lines that mention cookies, terms of use or a privacy policy.",
    )
    min_sentences: NonNegativeInt = Field(5, description="Fewest sentences in the lines that stay.")

    def changes_texts(self) -> bool:
        """See :class:`engine.Config`."""
        return self.drop


class FineWeb(Rules):
    """FineWeb's own rules (Penedo et al. 2024, section 3.6), over lines that are not blank."""

    min_punctuated_lines: Share = Field(
        0.12, description="Smallest share of the lines that end with terminal punctuation."
    )
    keep_unpunctuated: bool = Field(
        False, description="Keep documents in which no line at all ends with terminal punctuation."
    )
    max_short_lines: Share = Field(0.67, description="Largest share of short lines.")
    short_line: NonNegativeInt = Field(
        30, description="Longest line that counts as short, in characters."
    )
    max_duplicate_line_characters: Share = Field(
        0.01, description="Largest share of the characters in lines that repeat an earlier one."
    )
    max_newlines: NonNegative = Field(0.3, description="Most newlines per word.")


class WordList(Rules):
    """Drops documents with words or phrases of a list; case does not matter."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")] = Field(
        "word-list",
        description="Name of the rule and, with underscores, beginning of its columns' names.",
    )
    list: tuple[str, ...] = Field((), description="Words and phrases.")
    path: str | None = Field(
        None, description="Text file (UTF-8) with more of them, one on each line."
    )
    max_count: NonNegativeInt | None = Field(
        None, description="Most occurrences; without any limit, none is allowed."
    )
    max_share: Share | None = Field(
        None, description="Largest share of the words that belong to an occurrence."
    )

    @model_validator(mode="after")
    def _not_empty(self) -> WordList:
        if not self.list and self.path is None:
            raise ValueError("it has no words: set `list`, `path` or both")
        if not all(term.strip() for term in self.list):
            raise ValueError("`list` has an empty word")
        return self

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: a file that is missing."""
        if self.path is None or Path(self.path).expanduser().is_file():
            return {}
        return {"path": f"no file '{self.path}'; write one word or phrase on each line of it"}

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return () if self.path is None else (self.path,)


class Language(Config):
    """Detects the language with CLD2, and drops documents in other languages than those to keep."""

    keep: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Languages to keep, as ISO 639-1 codes such as `en`; traditional Chinese is "
        "`zh-Hant`. By default all.",
    )
    min_confidence: Share = Field(
        0.5,
        description="Smallest share of the text in its main language; a document below it counts as "
        "one in another language.",
    )

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: codes that the detector does not know."""
        try:
            from engine_corpus.judge.rules.language_codes import known_languages
        except ModuleNotFoundError:  # the missing extra is reported by itself
            return {}
        unknown = sorted(set(self.keep or ()) - known_languages())
        if not unknown:
            return {}
        return {"keep": f"no language '{unknown[0]}'; use codes such as en, de, zh, zh-Hant"}
