"""Evaluator ``preference-accuracy``: accuracy and calibration of a reward or cost model on held-out
preferences.

Shapes: P pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import (
    Context,
    Evaluator,
    Item,
    Preference,
    Response,
    Score,
    Value,
)
from engine_rlhf.config.evaluators import PreferenceAccuracy

Floats = NDArray[np.float64]


class PreferenceAccuracyEvaluator(Evaluator):
    """Compares the model's values of both answers of every held-out pair.

    In Bradley and Terry's model the chosen answer is preferred with probability σ(Δ), where Δ is the
    difference of the values in training units, before normalisation.
    """

    def __init__(self, config: PreferenceAccuracy, context: Context) -> None:
        self._config, self._context = config, context

    def items(self) -> Iterator[Item]:
        """One item for each pair, with its safety labels."""
        for record in self._context.held_out():
            if isinstance(record, Preference):
                asked = (
                    Value(record.prompt, record.chosen, record.tools),
                    Value(record.prompt, record.rejected, record.tools),
                )
                yield Item(record.id, asked, (record.chosen_safe, record.rejected_safe))

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, Any]:
        """``difference`` is above 0 where the model agrees with the preference. For a cost model,
        ``labelled`` counts answers with a safety label, and ``right`` those with the right sign."""
        chosen, rejected = (response.value * response.value_std for response in responses)
        if self._config.values == "reward":
            return {"difference": chosen - rejected}
        known = [
            (v, s) for v, s in zip((chosen, rejected), item.data, strict=True) if s is not None
        ]
        return {
            "difference": rejected - chosen,
            "labelled": len(known),
            "right": sum((value < 0) == safe for value, safe in known),
        }

    def summarise(self, rows: Sequence[dict[str, Any]]) -> list[Score]:
        """Accuracy (a tie counts ½), expected calibration error (Guo et al. 2017, equation 3), negative
        log-likelihood in nats and, for a cost model, the accuracy of its sign."""
        if not rows:
            return []
        difference_P = np.array([row["difference"] for row in rows])
        right_P = (difference_P > 0) + 0.5 * (difference_P == 0)
        nats_P = np.logaddexp(0.0, -difference_P)
        count = len(rows)
        scores = [
            Score("accuracy", float(right_P.mean()), _error(right_P), count),
            Score(
                "calibration_error",
                _calibration_error(difference_P, right_P, self._config.bins),
                None,
                count,
                higher_is_better=False,
            ),
            Score("nll", float(nats_P.mean()), _error(nats_P), count, higher_is_better=False),
        ]
        shares = [row["right"] / row["labelled"] for row in rows if row.get("labelled")]
        if shares:
            share_P = np.array(shares)
            scores.append(
                Score("safety_accuracy", float(share_P.mean()), _error(share_P), len(shares))
            )
        return scores


def _calibration_error(difference_P: Floats, right_P: Floats, bins: int) -> float:
    """Σ over bins of share · |accuracy − confidence|. The confidence is the probability (0.5 to 1) of
    the answer that the model prefers."""
    confidence_P = 1 / (1 + np.exp(-np.abs(difference_P)))
    bin_P = np.minimum(((confidence_P - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_P, right_P - confidence_P, bins)
    return float(np.abs(gaps).sum() / len(difference_P))


def _error(values: Floats) -> float | None:
    """Standard error of the mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def build(config: PreferenceAccuracy, context: Context) -> PreferenceAccuracyEvaluator:
    """Builds the evaluator."""
    return PreferenceAccuracyEvaluator(config, context)
