"""Configurations of this plugin's evaluators and rewards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from engine import (
    Count,
    EngineError,
    EvaluatorConfig,
    Need,
    Number,
    RewardConfig,
    Share,
)


class Benchmark(EvaluatorConfig):
    """A standard benchmark, one prompt for each row."""

    shots: int | None = Field(
        None, ge=0, description="Few-shot examples before each item; by default the usual number."
    )
    rows: str | None = Field(
        None,
        description="File or folder of rows with the hub's fields; by default those from "
        "`engine evals fetch`.",
    )

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (self.rows,) if self.rows else ()


class Mmlu(Benchmark):
    """MMLU, with all subjects or some."""

    subjects: tuple[str, ...] = Field(
        (), description="Subjects by their names on the hub, e.g. [astronomy]; by default all 57."
    )

    @field_validator("subjects")
    @classmethod
    def _known(cls, subjects: tuple[str, ...]) -> tuple[str, ...]:
        from engine_evals.benchmarks.record import standard_record

        if subjects:
            known = standard_record("mmlu").rows.parts
            for subject in subjects:
                if subject not in known:
                    raise ValueError(f"no subject '{subject}'; there are {', '.join(known)}")
        return subjects


class OwnBenchmark(Benchmark):
    """Your own benchmark, described by a record."""

    file: str = Field(description="Path of the record, a YAML file.")

    @field_validator("file")
    @classmethod
    def _loads(cls, file: str) -> str:
        from engine_evals.benchmarks.record import load_record

        try:
            load_record(Path(file))
        except EngineError as error:
            raise ValueError(str(error)) from error
        return file

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`: the record and its rows as well."""
        from engine_evals.benchmarks.record import load_record

        rows = load_record(Path(self.file)).rows.path
        beside = () if rows is None else (str(Path(self.file).parent / rows),)
        return (*super().reads(), self.file, *beside)


class CodeBenchmark(Benchmark):
    """A benchmark whose answers are programs, which are run in a sandbox."""

    former: ClassVar[Mapping[str, object]] = MappingProxyType({"allow_unsandboxed": False})

    samples: Count = Field(1, description="Programs to sample per row, each with its own seed.")
    k: tuple[Count, ...] = Field(
        (1,), min_length=1, description="One or several k for pass@k, e.g. [1, 10]."
    )
    temperature: Number = Field(
        0.0,
        ge=0,
        description="Sampling temperature; 0 takes the most probable token, for a single sample.",
    )

    @model_validator(mode="after")
    def _samples_are_enough(self) -> CodeBenchmark:
        if max(self.k) > self.samples:
            raise ValueError(f"pass@{max(self.k)} needs at least as many samples; set 'samples'")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("with temperature 0 all samples are the same; lm-eval's is 0.2")
        return self


class HumanEval(CodeBenchmark):
    """HumanEval's rows."""


class Mbpp(CodeBenchmark):
    """MBPP, with full or sanitized rows."""


class LmEval(EvaluatorConfig):
    """Tasks of lm-eval, with its prompts, filters, metrics and standard errors."""

    limit: Count | None = Field(
        None,
        description="Most items of all tasks together; tasks take turns, so each gives its first ones.",
    )
    tasks: tuple[str, ...] = Field(
        min_length=1,
        description="Tasks, groups and tags as lm-eval names them, e.g. [lambada_openai, blimp]. A "
        "task is code: its YAML names Python functions, which run with your privileges.",
    )
    shots: int | None = Field(
        None,
        ge=0,
        description="Few-shot examples before each item; by default each task's usual number. A task "
        "that allows none stays without.",
    )
    include: str | None = Field(
        None,
        description="Folder with YAML files of your own tasks, which override lm-eval's of the same "
        "name. They run code, and need `--allow code`.",
    )

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: your own tasks run code."""
        if self.include is not None:
            yield Need("include", f"runs code in {self.include}", "code")

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (self.include,) if self.include else ()

    @field_validator("include")
    @classmethod
    def _is_a_folder(cls, include: str | None) -> str | None:
        if include is not None and not Path(include).is_dir():
            raise ValueError(f"no folder '{include}'")
        return include


Perturbation = Literal["typos", "case", "whitespace", "option-order", "distractor"]


class Robustness(Benchmark):
    """A multiple-choice benchmark, unchanged and with perturbations that keep the answer."""

    benchmark: str = Field(description="Type of the benchmark, e.g. hellaswag.")
    perturbations: tuple[Perturbation, ...] = Field(
        (),
        description="Perturbations, applied separately; by default all that the benchmark supports. "
        "`option-order` needs options under letters (mmlu, commonsense-qa).",
    )
    strength: Share = Field(
        0.2,
        gt=0,
        description="Share to change: of longer words (`typos`), of letters (`case`), or of spaces "
        "(`whitespace`).",
    )
    seed: int = Field(0, description="Seed of the changes, which depend only on it and the text.")

    @model_validator(mode="after")
    def _can_be_changed(self) -> Robustness:
        from engine_evals.benchmarks.record import standard_choice_record

        record = standard_choice_record(self.benchmark)
        if "option-order" in self.perturbations and record.options_field is None:
            raise ValueError(
                f"the choices of {self.benchmark} are scored separately, so they have no order; leave "
                "out 'option-order'"
            )
        return self


class Adversarial(Benchmark):
    """A multiple-choice benchmark, unchanged and with adversarial tokens before each question."""

    benchmark: str = Field(description="Type of the benchmark, e.g. hellaswag.")
    tokens: Count = Field(5, description="Number of adversarial tokens.")
    steps: Count = Field(10, description="Steps of the search, each with the model's gradient.")
    candidates: Count = Field(32, description="Token replacements to try in each step.")
    seed: int = Field(0, description="Seed of the search.")

    @model_validator(mode="after")
    def _has_choices(self) -> Adversarial:
        from engine_evals.benchmarks.record import standard_choice_record

        if standard_choice_record(self.benchmark).ending is not None:
            raise ValueError(
                f"the choices of {self.benchmark} do not end its prompts; use another benchmark"
            )
        return self


class Safety(EvaluatorConfig):
    """Refusals and profanity in a model's continuations of harmful prompts."""

    prompts: tuple[str, ...] = Field(
        min_length=1,
        description="Files of prompts: rows of RealToxicityPrompts, of HH (the last human turn in "
        "`chosen`), or `{prompt: text}`.",
    )
    max_tokens: Count = Field(64, description="Tokens after which a continuation is cut off.")
    temperature: Number = Field(0.0, ge=0, description="Sampling temperature; 0 is greedy.")
    seed: int = Field(0, ge=0, description="Seed of sampling; each prompt gets its own from it.")

    @field_validator("prompts")
    @classmethod
    def _exist(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        from engine_evals.benchmarks.row_files import is_single_file

        for file in prompts:
            if not is_single_file(file):
                raise ValueError(f"no file '{file}'")
        return prompts

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return self.prompts


class Answer(RewardConfig):
    """1 for an answer that matches the right one in its record, else 0."""

    column: str = Field("answer", description="Column with the right answer: text or a number.")
    by: Literal["number", "value"] = Field(
        "number",
        description="`number` compares the last number of both, as in `gsm8k`; `value` compares "
        "mathematical values, as in `math` (`pip install 'training-engine[evals]'`).",
    )

    def check_row(self, row: Mapping[str, Any]) -> str | None:
        """See :class:`engine.RewardConfig`: the column must hold an answer."""
        from engine_evals.rewards.columns import last_number, right_answer

        try:
            right = right_answer(row, self.column)
        except ValueError as error:
            return str(error)
        if self.by == "number" and last_number(right) is None:
            return f"column '{self.column}' has no number: {right[:60]!r}"
        return None


class Tests(RewardConfig):
    """1 for an answer whose code passes its record's tests, else 0; both run in a sandbox."""

    column: str = Field(
        "tests", description="Column with the tests: Python code, or a list of them."
    )
    partial: bool = Field(
        False, description="Run listed tests separately, and give the share that passes."
    )
    seconds: Number = Field(5.0, gt=0, description="Time limit of a program, in seconds.")

    def check_row(self, row: Mapping[str, Any]) -> str | None:
        """See :class:`engine.RewardConfig`: the column must hold tests."""
        from engine_evals.rewards.columns import programs

        try:
            programs("", row, self.column, apart=self.partial)
        except ValueError as error:
            return str(error)
        return None
