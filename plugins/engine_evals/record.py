"""A benchmark as data: where its rows come from, how they are put to a model, what is measured.

Adding a benchmark is writing such a record; those in ``benchmarks/`` serve as examples.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from engine import Config, Count, RunError, read_regular, time_limit

PACKAGED = Path(__file__).with_name("benchmarks")


def _compiles(as_what: Literal["template", "expression"]) -> AfterValidator:
    def check(source: str) -> str:
        from jinja2 import TemplateError

        from engine_evals import templates

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
"""Text with a row's fields in it, as Jinja2: ``"Question: {{ question }}"``."""
Expression = Annotated[str, _compiles("expression")]
"""A value made of a row's fields, as Jinja2: ``choices.label.index(answerKey)``."""
Pattern = Annotated[str, AfterValidator(_is_pattern)]
"""A regular expression."""


class Source(Config):
    """Where rows come from; `sources.yaml` says where the standard ones are fetched."""

    path: str | None = Field(
        None,
        description="File or folder of rows, relative to the record; without it, what "
        "`engine evals fetch` has brought.",
    )
    split: str = Field("test", description="Split whose rows are scored.")
    parts: tuple[str, ...] = Field(
        (), description="Parts, each with rows, examples and score of its own: MMLU's subjects."
    )
    part_field: str | None = Field(
        None, description="Field that names a row's part, where one file holds several parts."
    )


class Examples(Config):
    """The worked examples before each row."""

    shots: int = Field(0, ge=0, description="How many, unless a spec says otherwise.")
    split: str | None = Field(
        None, description="Split that they are taken from; without it, the one that is scored."
    )
    order: Literal["random", "first"] = Field(
        "random", description="Drawn anew for each row with a fixed seed, or the first ones always."
    )
    rows: tuple[dict[str, Any], ...] = Field((), description="The examples themselves.")


class Record(Config):
    """What benchmarks of both kinds have."""

    summary: str = Field(description="What is asked, in a line.")
    source: str = Field("", description="Paper or page that describes the benchmark.")
    rows: Source = Field(description="Where rows come from.")
    examples: Examples = Field(Examples(), description="The worked examples before each row.")
    description: Template = Field("", description="Stands before everything; `part` is the part.")
    prompt: Template = Field(description="A row as the model sees it, without the answer.")


class Question(Config):
    """Choices that are put to the model after the prompt."""

    choices: Expression = Field(description="The list of choices, as texts.")
    gold: Expression = Field(description="Position of the right choice, or a list of positions.")
    metrics: tuple[Literal["acc", "acc_norm", "mc1", "mc2"], ...] = Field(
        min_length=1,
        description="`acc`: the likeliest choice is right; `acc_norm`: by log-likelihood per "
        "character; `mc1`: `acc` by TruthfulQA's name; `mc2`: share of the probability on the "
        "right choices.",
    )


class ChoiceRecord(Record):
    """Choices, compared by their log-likelihoods."""

    kind: Literal["choice"]
    questions: tuple[Question, ...] = Field(
        min_length=1, description="Sets of choices; examples are worked with the first."
    )
    ending: Template | None = Field(
        None,
        description="What follows the choice: then the choice joins the prompt, and the ending's "
        "log-likelihood is compared (WinoGrande).",
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
    ignore_case: bool = Field(False, description="Whether capitals make no difference.")


class GenerationRecord(Record):
    """Answers that the model writes."""

    kind: Literal["generation"]
    answer: Template = Field(description="The answer of a worked example.")
    gold: Template | None = Field(None, description="The right answer; without it, `answer`.")
    stops: tuple[str, ...] = Field((), description="Texts at which an answer ends.")
    max_tokens: Count = Field(256, description="Tokens after which an answer is cut off.")
    metrics: tuple[Match, ...] = Field(min_length=1, description="How answers are compared.")


_ANY: TypeAdapter[ChoiceRecord | GenerationRecord] = TypeAdapter(
    Annotated[ChoiceRecord | GenerationRecord, Field(discriminator="kind")]
)


def load(file: Path) -> ChoiceRecord | GenerationRecord:
    """The record in a YAML file. Raises RunError that names the file and each wrong field."""
    try:
        with time_limit(f"{file}: reading it", "a record is a page or two"):
            return _ANY.validate_python(yaml.safe_load(read_regular(file).decode("utf-8")))
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = "; ".join(_told(problem) for problem in error.errors())
        raise RunError(
            f"{file}: {problems}", mend=f"the records in {PACKAGED} are examples"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: no YAML: {error}") from error


def packaged(name: str) -> ChoiceRecord | GenerationRecord:
    """The record of a standard benchmark, by its type in a spec."""
    return load(PACKAGED / f"{name}.yaml")


def packaged_names() -> list[str]:
    """Types of the standard benchmarks."""
    return sorted(file.stem for file in PACKAGED.glob("*.yaml"))


def _told(problem: Any) -> str:
    at = [str(part) for part in problem["loc"] if part not in ("choice", "generation")]
    return f"{'.'.join(at) or 'record'}: {problem['msg'].removeprefix('Value error, ')}"
