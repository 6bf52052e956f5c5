"""Configurations of the rewards that check an answer by its record's own columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from engine import Number, RewardConfig


class Answer(RewardConfig):
    """1 where an answer comes to what its record says, 0 elsewhere."""

    column: str = Field("answer", description="Column with the right answer: text or a number.")
    by: Literal["number", "value"] = Field(
        "number",
        description="`number`: the last number of both, as `gsm8k` finds it; `value`: as mathematics, "
        "as `math` compares (`pip install 'training-engine[evals]'`).",
    )

    def check_row(self, row: Mapping[str, Any]) -> str | None:
        """See :class:`engine.RewardConfig`: a column with an answer in it."""
        from engine_evals.columns import last_number, right_answer

        try:
            right = right_answer(row, self.column)
        except ValueError as error:
            return str(error)
        if self.by == "number" and last_number(right) is None:
            return f"column '{self.column}' has no number: {right[:60]!r}"
        return None


class Tests(RewardConfig):
    """1 where an answer's code passes its record's tests, 0 elsewhere. Both run in a sandbox."""

    column: str = Field(
        "tests", description="Column with the tests: Python code, or a list of pieces of it."
    )
    partial: bool = Field(
        False, description="Give the share of the listed tests that pass, each run by itself."
    )
    seconds: Number = Field(5.0, gt=0, description="Longest that a program may run.")

    def check_row(self, row: Mapping[str, Any]) -> str | None:
        """See :class:`engine.RewardConfig`: a column with tests of something in it."""
        from engine_evals.columns import programs

        try:
            programs("", row, self.column, apart=self.partial)
        except ValueError as error:
            return str(error)
        return None
