"""Configurations of the benchmarks."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from engine import Count, EngineError, EvaluatorConfig, Number


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


class CodeBenchmark(Benchmark):
    """Rows whose answers are programs, which are run."""

    samples: Count = Field(1, description="Programs asked for per row, each with its own seed.")
    k: tuple[Count, ...] = Field(
        (1,), min_length=1, description="The k of pass@k, one or several: [1, 10]."
    )
    temperature: Number = Field(
        0.0, ge=0, description="Of sampling; 0 takes the likeliest token, for a single sample."
    )
    allow_unsandboxed: bool = Field(
        False,
        description="Where there is no sandbox, run the programs all the same, as this user: they "
        "may do whatever this user may.",
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
