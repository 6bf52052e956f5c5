"""How well a reward or cost model knows which answer people prefer, and how well it knows that.

Shapes: P pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import Context, Item, Preference, Response, Score, Value
from engine_rlhf.offline_config import PreferenceAccuracy

Floats = NDArray[np.float64]


class PreferenceAccuracyEvaluator:
    """Asks for the values of both answers of every held-out pair.

    By Bradley and Terry's model the chosen answer is preferred with probability σ(Δ), where Δ is the
    difference of the values as the model was trained, not normalised.
    """

    def __init__(self, config: PreferenceAccuracy, context: Context) -> None:
        self._config, self._context = config, context

    def items(self) -> Iterator[Item]:
        """A pair is an item, with its safety labels."""
        for record in self._context.held_out():
            if isinstance(record, Preference):
                asked = (
                    Value(record.prompt, record.chosen, record.tools),
                    Value(record.prompt, record.rejected, record.tools),
                )
                yield Item(record.id, asked, (record.chosen_safe, record.rejected_safe))

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, Any]:
        """``difference``, above 0 where the model agrees, and of a cost model how many ``labelled``
        answers it has on the ``right`` side of 0."""
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
        """Accuracy (a tie is half right), the expected calibration error (Guo et al. 2017, equation 3)
        and the negative log-likelihood in nats; of a cost model, the accuracy of its sign."""
        if not rows:
            return []
        difference_P = np.array([row["difference"] for row in rows])
        right_P = (difference_P > 0) + 0.5 * (difference_P == 0)
        nats_P = np.logaddexp(0.0, -difference_P)
        n = len(rows)
        scores = [
            Score("accuracy", float(right_P.mean()), _error(right_P), n),
            Score(
                "calibration_error",
                _calibration_error(difference_P, right_P, self._config.bins),
                None,
                n,
                higher_is_better=False,
            ),
            Score("nll", float(nats_P.mean()), _error(nats_P), n, higher_is_better=False),
        ]
        shares = [row["right"] / row["labelled"] for row in rows if row.get("labelled")]
        if shares:
            share_P = np.array(shares)
            scores.append(
                Score("safety_accuracy", float(share_P.mean()), _error(share_P), len(shares))
            )
        return scores


def _calibration_error(difference_P: Floats, right_P: Floats, bins: int) -> float:
    """Σ over bins of confidence of their share · |accuracy − confidence|, where the confidence is that
    in the answer that the model prefers: 0.5 to 1."""
    confidence_P = 1 / (1 + np.exp(-np.abs(difference_P)))
    bin_P = np.minimum(((confidence_P - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_P, right_P - confidence_P, bins)
    return float(np.abs(gaps).sum() / len(difference_P))


def _error(values: Floats) -> float | None:
    """Standard error of the mean."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def build(config: PreferenceAccuracy, context: Context) -> PreferenceAccuracyEvaluator:
    """The evaluator."""
    return PreferenceAccuracyEvaluator(config, context)
