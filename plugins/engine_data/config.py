"""Configurations of sources, processors and tokenizers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from engine import (
    Config,
    Count,
    DataSourceConfig,
    Need,
    Schema,
    TokenizerConfig,
    VariableName,
    misplaced,
    read_json,
    secret_need,
    tokenizer_fault,
)
from engine.files import expanded
from engine_data.dataset_card import dataset_fault
from engine_data.rows.saved_datasets import saved_among
from engine_data.sources.installed_packages import normalized, package_fault


class PythonLibrary(DataSourceConfig):
    """The standard library of the running Python, or installed packages."""

    packages: tuple[str, ...] = Field(
        (),
        description="Installed distributions, e.g. [sympy, scipy], whose modules are read in place of "
        "the standard library's; they have no topics.",
    )
    parts: tuple[Literal["sources", "docstrings", "topics"], ...] = Field(
        ("sources", "docstrings", "topics"),
        min_length=1,
        description="Parts to take: modules' source code, their docstrings, pydoc's topics.",
    )
    tests: bool = Field(False, description="Include the library's own tests.")

    @model_validator(mode="after")
    def _has_parts(self) -> PythonLibrary:
        if self.packages and set(self.parts) == {"topics"}:
            raise ValueError("packages have no topics: add `sources` or `docstrings` to parts")
        return self

    @model_serializer(mode="wrap")
    def _without_an_empty_list(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out packages that were not given, as a spec with an empty list is refused."""
        plain: dict[str, Any] = write(self)
        return plain if self.packages else {k: v for k, v in plain.items() if k != "packages"}

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: an empty list, and packages that are not installed, have no
        sources, or are named twice."""
        if not self.packages and "packages" in self.model_fields_set:
            return {"packages": "names no package; remove the field to read the standard library"}
        found = {}
        names = [normalized(name) for name in self.packages]
        for place, name in enumerate(self.packages):
            if names[place] in names[:place]:
                first = self.packages[names.index(names[place])]
                also = "" if first == name else f", also as '{first}'"
                found[f"packages.{place}"] = f"'{name}' is named twice{also}"
            elif wrong := package_fault(name):
                found[f"packages.{place}"] = wrong
        return found


class PythonQuestions(DataSourceConfig):
    """Questions about the running Python's standard library, answered from its docstrings and code."""

    records: Literal["completion", "preference", "prompt", "chat"] = Field(
        "completion", description="Schema of the records; a preference's rejected answer is wrong."
    )
    questions: tuple[Literal["purpose", "body"], ...] = Field(
        ("purpose",),
        min_length=1,
        description="Kinds of questions: what a definition does (answered by its docstring), or how a "
        "function continues (answered by its body).",
    )
    answers: Literal["paragraph", "whole"] = Field(
        "paragraph",
        description="Part of a docstring that is the answer: its first paragraph, or the whole.",
    )
    max_characters: Count = Field(
        240, description="Longest prompt and longest answer; longer ones are left out."
    )

    def gives(self) -> Schema:
        """See :class:`engine.DataSourceConfig`: as configured."""
        return self.records

    def text_bytes(self) -> tuple[int, int]:
        """See :class:`engine.DataConfig`: both are limited, and nearly all ASCII."""
        return self.max_characters, self.max_characters


class Arithmetic(DataSourceConfig):
    """Arithmetic questions such as `12+34=`, in a fixed shuffled order."""

    records: Literal["text", "completion", "prompt"] = Field(
        "prompt",
        description="Schema of the records: `text` joins question and answer, `completion` keeps them "
        "apart, and `prompt` has the `answer` in its row.",
    )
    operations: tuple[Literal["+", "-", "*"], ...] = Field(
        ("+",), min_length=1, description="Operations to ask for."
    )
    digits: Annotated[Count, Field(le=9)] = Field(2, description="Most digits of each number.")
    questions: Count = Field(10_000, description="Largest number of questions, all different.")

    def gives(self) -> Schema:
        """See :class:`engine.DataSourceConfig`: as configured."""
        return self.records

    def text_bytes(self) -> tuple[int, int]:
        """See :class:`engine.DataConfig`: two numbers and two signs, and the longest result."""
        return 2 * self.digits + 2, self.digits * 2 if "*" in self.operations else self.digits + 1

    @field_validator("operations")
    @classmethod
    def _each_once(cls, operations: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(operations)) < len(operations):
            raise ValueError("one operation is named twice")
        return operations


class Files(DataSourceConfig):
    """Local files: texts, JSON, JSON lines, CSV, TSV and Parquet, also compressed.

    Each text file is a record, or several linked ones if it is long, with newlines as line ends; in
    other formats each row is a record. A file is read once, even if several patterns or links lead to
    it.
    """

    former: ClassVar[Mapping[str, object]] = MappingProxyType({"text_field": "text"})

    paths: tuple[str, ...] = Field(
        min_length=1, description="Files, globs ('notes/**/*.md') and folders from `save_to_disk`."
    )
    records: Schema | Literal["auto"] = Field(
        "auto", description="Schema of the records; `auto` recognises it in the first rows."
    )
    columns: dict[str, str] = Field({}, description="Column of the rows that holds each field.")
    license: str | None = Field(None, description="Licence of records that name none.")

    def gives(self) -> Schema | None:
        """See :class:`engine.DataSourceConfig`: as configured, or recognised in the first rows."""
        if self.records != "auto":
            return self.records
        from engine_data.sources.local_files import FilesSource

        return FilesSource(self.paths, self.records, self.columns).schema()

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`: all files of a saved data set if one is named."""
        return (*self.paths, *saved_among(self.paths))


class HuggingFace(DataSourceConfig):
    """A data set opened with the `datasets` library, without running the data set's own code."""

    path: str = Field(description="Name on the Hugging Face hub, or a folder.")
    name: str | None = Field(None, description="Configuration of the data set.")
    split: str = Field("train", description="Split.")
    revision: str | None = Field(None, description="Commit on the hub: pinned, so results repeat.")
    streaming: bool = Field(
        True, description="Read row by row, without downloading everything first."
    )
    records: Schema | Literal["auto"] = Field(
        "auto", description="Schema of the records; `auto` recognises it in the first rows."
    )
    columns: dict[str, str] = Field({}, description="Column of the data set that holds each field.")
    license: str | None = Field(None, description="Licence of the data set.")
    token_env: VariableName | None = Field(
        None,
        description="Environment variable that holds the hub's token; it needs `--allow "
        "secret=NAME@HOST`.",
    )

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: a folder's card may refer to data elsewhere."""
        wrong = dataset_fault(expanded(self.path))
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
        """See :class:`engine.DataSourceConfig`: as configured; None until rows are read."""
        return None if self.records == "auto" else self.records

    @model_validator(mode="after")
    def _pinned(self) -> HuggingFace:
        """Raises ValueError for a missing folder, and for a name on the hub without a revision."""
        if wrong := misplaced(self.path, self.revision):
            raise ValueError(wrong)
        return self


class Local(Config):
    """Prepares a corpus by worker processes of this machine."""

    processes: int | None = Field(
        None,
        ge=0,
        description="Worker processes; without it, one for each core, and at most one for 2 GB of "
        "memory. 0: the engine's own process, which a document that crashes it ends.",
    )


class ExactDedup(Config):
    """Drops documents whose text equals that of one that stays: the first of the highest priority."""

    removes_copies: ClassVar = True

    ignore: tuple[Literal["case", "whitespace"], ...] = Field(
        (), description="Differences to ignore when comparing texts."
    )


class Length(Config):
    """Drops records by the length of their text."""

    min: int = Field(1, ge=0, description="Shortest text to keep, in characters.")
    max: Count | None = Field(None, description="Longest text to keep, in characters.")

    @model_validator(mode="after")
    def _ordered(self) -> Length:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is less than min {self.min}")
        return self


class BPE(TokenizerConfig):
    """Byte-level byte-pair encoding (Sennrich et al. 2016), trained on the corpus."""

    vocab_size: Count = Field(
        4096, ge=258, description="Number of tokens, including special tokens."
    )
    min_frequency: Count = Field(2, description="Pairs that occur less often are not merged.")
    sample_mb: Count = Field(
        32, description="Train on a sample of about this many MB, drawn evenly from the corpus."
    )

    def vocabulary(self) -> int:
        """See :class:`engine.TokenizerConfig`: an upper bound; a small corpus has fewer pairs."""
        return self.vocab_size


class PretrainedTokenizer(TokenizerConfig):
    """An existing tokenizer, from a folder or the Hugging Face hub."""

    path: Annotated[str, AfterValidator(os.path.expanduser)] = Field(
        description="Folder, or name on the hub."
    )
    revision: str | None = Field(None, description="Commit on the hub: pinned, so results repeat.")

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: problems in the folder's files."""
        wrong, folder = misplaced(self.path, self.revision), Path(self.path)
        if os.path.isdir(folder):
            wrong = tokenizer_fault(folder)
        return {"path": wrong} if wrong else {}

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (self.path,)

    def vocabulary(self) -> int | None:
        """See :class:`engine.TokenizerConfig`: as tokenizer.json says; None for a name on the hub."""
        file = Path(expanded(self.path)) / "tokenizer.json"
        if not file.is_file():
            return None
        try:
            described = read_json(file)
            tokens = described["model"]["vocab"]
            known = set(tokens) if isinstance(tokens, dict) else {token for token, _ in tokens}
            return len(known | {token["content"] for token in described.get("added_tokens", ())})
        except (ValueError, LookupError, TypeError):  # `problems` reports a damaged file
            return None


class Bytes(TokenizerConfig):
    """One token per byte, plus an end-of-document token."""

    def vocabulary(self) -> int:
        """See :class:`engine.TokenizerConfig`: the bytes, the end of a document, and padding."""
        return 258
