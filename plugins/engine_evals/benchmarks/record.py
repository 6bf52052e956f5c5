"""The record that describes a benchmark: its rows, prompts and metrics.

A record is a YAML file. The standard benchmarks' records are in ``standard/``, and serve as examples
for new ones.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from engine import (
    Config,
    Count,
    RunError,
    read_regular,
    time_limit,
)

STANDARD = Path(__file__).with_name("standard")


def _compiles(as_what: Literal["template", "expression"]) -> AfterValidator:
    """A validator of the syntax, which imports Jinja2 on its first use only."""

    def check(source: str) -> str:
        from jinja2 import TemplateError

        from engine_evals.benchmarks import templates

        try:
            getattr(templates, as_what)(source)
        except TemplateError as error:
            raise ValueError(f"no Jinja2 {as_what}: {error}") from error
        return source

    return AfterValidator(check)


def _is_pattern(source: str) -> str:
    try:
        re.compile(source)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return source


Template = Annotated[str, _compiles("template")]
"""A Jinja2 template over a row's fields: ``"Question: {{ question }}"``."""
Expression = Annotated[str, _compiles("expression")]
"""A Jinja2 expression over a row's fields: ``choices.label.index(answerKey)``."""
Pattern = Annotated[str, AfterValidator(_is_pattern)]
"""A regular expression."""


class RowSource(Config):
    """Where rows are read from; `fetching/catalogue.yaml` has the origins of the standard ones."""

    path: str | None = Field(
        None,
        description="File or folder of rows, relative to the record; by default those from "
        "`engine evals fetch`.",
    )
    split: str = Field("test", description="Split whose rows are scored.")
    parts: tuple[str, ...] = Field(
        (), description="Parts with their own rows, examples and scores, such as MMLU's subjects."
    )
    part_field: str | None = Field(
        None, description="Field that names a row's part, if one file holds several parts."
    )


class ExampleSource(Config):
    """Number and origin of the few-shot examples before each row."""

    shots: int = Field(0, ge=0, description="Number of examples; a spec may override it.")
    split: str | None = Field(
        None, description="Split that examples are taken from; by default the scored one."
    )
    order: Literal["random", "first"] = Field(
        "random",
        description="Draw new examples for each row, with a fixed seed, or take the first.",
    )
    rows: tuple[dict[str, Any], ...] = Field((), description="The examples, if written here.")


class BenchmarkRecord(Config):
    """Fields that both kinds of benchmark share."""

    summary: str = Field(description="What the benchmark asks, in one line.")
    source: str = Field("", description="Paper or page that describes the benchmark.")
    rows: RowSource = Field(description="Where rows come from.")
    examples: ExampleSource = Field(
        ExampleSource(), description="The few-shot examples before each row."
    )
    description: Template = Field(
        "", description="Text before the examples; `part` is the part's name."
    )
    prompt: Template = Field(description="A row's prompt, without the answer.")
    question: Template | None = Field(
        None,
        description="What a row asks, by which it is found in training data; by default the "
        "`question_fields`, or without these the prompt.",
    )
    passage: Template | None = Field(
        None, description="The text that a row's question is about, where there is one."
    )


class Question(Config):
    """Choices that continue the prompt."""

    choices: Expression = Field(description="The list of choices, as texts.")
    gold: Expression = Field(description="Position of the right choice, or a list of positions.")
    metrics: tuple[Literal["acc", "acc_norm", "mc1", "mc2"], ...] = Field(
        min_length=1,
        description="`acc`: whether the most probable choice is right; `acc_norm`: the same by "
        "log-likelihood per character; `mc1`: TruthfulQA's name for `acc`; `mc2`: share of the "
        "probability on right choices.",
    )


class ChoiceRecord(BenchmarkRecord):
    """A benchmark whose choices are compared by log-likelihood."""

    kind: Literal["choice"]
    questions: tuple[Question, ...] = Field(
        min_length=1, description="Sets of choices; few-shot examples use the first."
    )
    ending: Template | None = Field(
        None,
        description="Text after the choice. If given, choices become part of the prompt, and this "
        "ending's log-likelihood is compared (WinoGrande).",
    )
    question_fields: tuple[str, ...] = Field(
        (),
        description="Fields that ask the question, in the prompt's order: `robustness` changes "
        "their texts.",
    )
    options_field: str | None = Field(
        None,
        description="Field with the list of options, where the prompt shows them under letters "
        "(`choices.text`): `robustness` changes their order.",
    )


class Match(Config):
    """How a generated answer is compared with the right one."""

    name: str = Field(description="Name of the score.")
    by: Literal["text", "value"] = Field(
        "text", description="Letter by letter, or as mathematics (math-verify)."
    )
    find: Pattern | None = Field(
        None, description="What of the generated text is the answer; its first group, if any."
    )
    take: Literal["first", "last"] = Field("first", description="Which of several findings.")
    ignore: tuple[Pattern, ...] = Field(
        (), description="What is deleted from both texts, one after another."
    )
    ignore_case: bool = Field(False, description="Ignore case.")


class GenerationRecord(BenchmarkRecord):
    """A benchmark whose answers the model generates."""

    kind: Literal["generation"]
    answer: Template = Field(description="The answer in a few-shot example.")
    gold: Template | None = Field(None, description="The right answer; by default `answer`.")
    stops: tuple[str, ...] = Field((), description="Texts at which an answer ends.")
    max_tokens: Count = Field(256, description="Tokens after which an answer is cut off.")
    metrics: tuple[Match, ...] = Field(min_length=1, description="How answers are compared.")


_ANY: TypeAdapter[ChoiceRecord | GenerationRecord] = TypeAdapter(
    Annotated[ChoiceRecord | GenerationRecord, Field(discriminator="kind")]
)


def load_record(file: Path) -> ChoiceRecord | GenerationRecord:
    """The record in a YAML file. Raises RunError that names the file and each wrong field."""
    try:
        with time_limit(f"{file}: reading it", "a record is a page or two"):
            return _ANY.validate_python(yaml.safe_load(read_regular(file).decode("utf-8")))
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(_message(problem) for problem in error.errors())
        raise RunError(
            f"{file}: {problems}", hint=f"the records in {STANDARD} are examples"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: no YAML: {error}") from error


def standard_record(name: str) -> ChoiceRecord | GenerationRecord:
    """The record of a standard benchmark, by its type in a spec."""
    return load_record(STANDARD / f"{name}.yaml")


def standard_names() -> list[str]:
    """Types of the standard benchmarks."""
    return sorted(file.stem for file in STANDARD.glob("*.yaml"))


def standard_choice_record(name: str) -> ChoiceRecord:
    """The record of a standard multiple-choice benchmark. Raises ValueError where there is none."""
    names = standard_names()
    record = standard_record(name) if name in names else None
    if not isinstance(record, ChoiceRecord):
        known = [each for each in names if isinstance(standard_record(each), ChoiceRecord)]
        raise ValueError(f"no multiple-choice benchmark '{name}'; there are {', '.join(known)}")
    return record


def _message(problem: ErrorDetails) -> str:
    """The field and what is wrong with it, without pydantic's wording."""
    at = [str(part) for part in problem["loc"] if part not in ("choice", "generation")]
    return f"{'.'.join(at) or 'record'}: {problem['msg'].removeprefix('Value error, ')}"
