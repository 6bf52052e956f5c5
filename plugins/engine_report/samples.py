"""Evaluator ``samples``: logs what a model writes after a few prompts, so that a report can show how
its texts change from checkpoint to checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine import (
    Context,
    Evaluator,
    Generation,
    Item,
    Response,
    Sample,
    Score,
    seed_of,
)
from engine.modeling import prompt_tokens, ratio
from engine_report.config import Samples

_N = 4
_Z = 1.96

Row = dict[str, Any]


class SamplesEvaluator(Evaluator):
    """Lets the model go on from each prompt, always with the same seeds."""

    open_ended = True

    def __init__(self, config: Samples, context: Context) -> None:
        self._config, self._context = config, context

    def items(self) -> Iterator[Item]:
        """One item for each prompt."""
        config = self._config
        for number, prompt in enumerate(config.prompts):
            asked: str | tuple[int, ...] = prompt
            if config.chat:
                asked = tuple(prompt_tokens(self._context.tokenizer(), prompt))
            request = Generation(
                asked,
                max_tokens=config.max_tokens,
                temperature=config.temperature,
                seed=seed_of(self._context.seed, "samples", number),
            )
            yield Item(str(number), (request,), prompt)

    def score(self, item: Item, responses: Sequence[Response]) -> Row:
        """Prompt and text, the number of its tokens, and of its 4-grams all and repeated ones."""
        (response,) = responses
        ids = response.ids[: response.tokens]
        grams = [ids[start : start + _N] for start in range(len(ids) - _N + 1)]
        return {
            "prompt": item.data,
            "text": response.text,
            "tokens": response.tokens,
            "grams": len(grams),
            "repeated": len(grams) - len(set(grams)),
        }

    def samples(self, rows: Sequence[Row]) -> Sequence[Sample]:
        """Every prompt with its text."""
        return [Sample(row["prompt"], row["text"]) for row in rows]

    def summarise(self, rows: Sequence[Row]) -> list[Score]:
        """``repeated_4grams``, the share of a text's 4-grams of tokens that it has had before (Welleck
        et al. 2020, seq-rep-4), and ``tokens``, the mean length of a text."""
        repeated, spread = ratio([r["repeated"] for r in rows], [r["grams"] for r in rows])
        length, error = ratio([r["tokens"] for r in rows], [1.0] * len(rows))
        return [
            Score(
                "repeated_4grams",
                repeated,
                spread,
                len(rows),
                higher_is_better=False,
                interval=_interval(repeated, spread, 1.0),
            ),
            Score(
                "tokens", length, error, len(rows), interval=_interval(length, error, float("inf"))
            ),
        ]


def _interval(value: float, error: float | None, most: float) -> tuple[float, float] | None:
    """A 95 % interval, inside what the figure can be."""
    if error is None:
        return None
    return max(0.0, value - _Z * error), min(most, value + _Z * error)


def build(config: Samples, context: Context) -> SamplesEvaluator:
    """The evaluator."""
    return SamplesEvaluator(config, context)
