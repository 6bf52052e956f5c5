"""Configurations of sources, processors and tokenizers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from engine import (
    Config,
    Count,
    DataSourceConfig,
    Need,
    Schema,
    TokenizerConfig,
    VariableName,
    misplaced,
    secret_need,
    tokenizer_fault,
)
from engine_data.card import elsewhere
from engine_data.places import expanded


class PythonLibrary(DataSourceConfig):
    """The standard library of the Python that runs this."""

    parts: tuple[Literal["sources", "docstrings", "topics"], ...] = Field(
        ("sources", "docstrings", "topics"),
        min_length=1,
        description="Modules' source code, their docstrings, pydoc's topics.",
    )
    tests: bool = Field(False, description="Also the library's own tests.")


class PythonQuestions(DataSourceConfig):
    """Questions about the standard library of the Python that runs this, with its own answers."""

    records: Literal["completion", "preference", "prompt", "chat"] = Field(
        "completion", description="Schema of the records; a preference's other answer is wrong."
    )
    questions: tuple[Literal["purpose", "body"], ...] = Field(
        ("purpose",),
        min_length=1,
        description="What something does (its docstring), how a function goes on (its body).",
    )
    answers: Literal["paragraph", "whole"] = Field(
        "paragraph",
        description="How much of a docstring is the answer: its first paragraph, or all.",
    )
    max_characters: Count = Field(
        240, description="Longest prompt, and longest answer; others are left out."
    )

    def gives(self) -> Schema:
        """As configured."""
        return self.records


class Arithmetic(DataSourceConfig):
    """Questions of arithmetic, `12+34=`, in a shuffled order that is always the same."""

    records: Literal["text", "completion", "prompt"] = Field(
        "prompt",
        description="Schema of the records: question and answer as one text or apart, or a prompt "
        "whose row has the `answer`.",
    )
    operations: tuple[Literal["+", "-", "*"], ...] = Field(
        ("+",), min_length=1, description="What is asked."
    )
    digits: Annotated[Count, Field(le=9)] = Field(2, description="Of both numbers, at most.")
    questions: Count = Field(10_000, description="Questions, at most: there is each one once.")

    def gives(self) -> Schema:
        """As configured."""
        return self.records

    @field_validator("operations")
    @classmethod
    def _each_once(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(operations)) < len(operations):
            raise ValueError("one of them is named twice")
        return operations


class Files(DataSourceConfig):
    """Local files: texts, JSON, JSON lines, CSV, TSV and Parquet, also compressed.

    A text file is a document, whose lines end in a newline alone; a row of any other is a record. A
    file counts once, by however many names and links it is reached.
    """

    former: ClassVar[Mapping[str, object]] = MappingProxyType({"text_field": "text"})

    paths: tuple[str, ...] = Field(
        min_length=1, description="Files or globs ('notes/**/*.md'), and folders of `save_to_disk`."
    )
    records: Schema | Literal["auto"] = Field(
        "auto", description="Schema of the records; `auto` recognises it in the first rows."
    )
    columns: dict[str, str] = Field({}, description="The rows' column for each field.")
    license: str | None = Field(None, description="Licence, for records that do not say.")

    def gives(self) -> Schema | None:
        """As configured, or as the first rows show. Raises RunError where they show nothing known."""
        if self.records != "auto":
            return self.records
        from engine_data.reading import FilesSource

        return FilesSource(self.paths, self.records, self.columns).schema()

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return self.paths


class HuggingFace(DataSourceConfig):
    """A data set that the `datasets` library opens; its code is never run."""

    path: str = Field(description="Name on the hub, or a folder.")
    name: str | None = Field(None, description="Configuration of the data set.")
    split: str = Field("train", description="Split.")
    revision: str | None = Field(None, description="Commit on the hub: pinned, so results repeat.")
    streaming: bool = Field(True, description="Read row by row instead of downloading all first.")
    records: Schema | Literal["auto"] = Field(
        "auto", description="Schema of the records; `auto` recognises it in the first rows."
    )
    columns: dict[str, str] = Field({}, description="The data set's column for each field.")
    license: str | None = Field(None, description="Licence of the data set.")
    token_env: VariableName | None = Field(
        None,
        description="Environment variable that holds the hub's token; it needs `--allow "
        "secret=NAME@HOST`.",
    )

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: what a folder says of itself may lead elsewhere."""
        folder = Path(expanded(self.path))
        wrong = elsewhere(folder) if folder.is_dir() else None
        return {"path": wrong} if wrong else {}

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: the token; the hub itself needs nothing."""
        if self.token_env:
            hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
            yield secret_need("token_env", self.token_env, hub)

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (self.path,)

    def gives(self) -> Schema | None:
        """As configured; what the first rows show is known when they are read."""
        return None if self.records == "auto" else self.records

    @model_validator(mode="after")
    def _pinned(self) -> HuggingFace:
        """Raises ValueError for a folder that is not there, and for what may change on the hub."""
        if wrong := misplaced(self.path, self.revision):
            raise ValueError(wrong)
        return self


class ExactDedup(Config):
    """Drops a record whose text is the same as an earlier one's."""

    ignore: tuple[Literal["case", "whitespace"], ...] = Field(
        (), description="Differences that do not count."
    )


class Length(Config):
    """Drops records by the length of their text."""

    min: int = Field(1, ge=0, description="Shortest, in characters.")
    max: Count | None = Field(None, description="Longest, in characters.")

    @model_validator(mode="after")
    def _ordered(self) -> Length:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        return self


class BPE(TokenizerConfig):
    """Byte-level byte-pair encoding (Sennrich et al. 2016), trained on the corpus."""

    vocab_size: Count = Field(4096, ge=258, description="Tokens, special ones included.")
    min_frequency: Count = Field(2, description="Pairs seen less often are not merged.")
    sample_mb: Count = Field(32, description="Train on about so many MB, evenly spread.")

    def vocabulary(self) -> int:
        """At most, as a small corpus has fewer pairs."""
        return self.vocab_size


class PretrainedTokenizer(TokenizerConfig):
    """A tokenizer that exists."""

    path: Annotated[str, AfterValidator(os.path.expanduser)] = Field(
        description="Folder, or name on the hub."
    )
    revision: str | None = Field(None, description="Commit on the hub: pinned, so results repeat.")

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: what the folder's files show."""
        wrong, folder = misplaced(self.path, self.revision), Path(self.path)
        if os.path.isdir(folder):
            wrong = tokenizer_fault(folder)
        return {"path": wrong} if wrong else {}

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (self.path,)

    def vocabulary(self) -> int | None:
        """As tokenizer.json says, which is read as data; None for a name on the hub."""
        file = Path(expanded(self.path)) / "tokenizer.json"
        if not file.is_file():
            return None
        try:
            described = json.loads(file.read_text(encoding="utf-8"))
            tokens = described["model"]["vocab"]
            known = set(tokens) if isinstance(tokens, dict) else {token for token, _ in tokens}
            return len(known | {token["content"] for token in described.get("added_tokens", ())})
        except (ValueError, LookupError, TypeError):  # a damaged file, which `problem` tells
            return None


class Bytes(TokenizerConfig):
    """One token a byte, and the end of a document."""

    def vocabulary(self) -> int:
        """The bytes, the end, and padding."""
        return 258
