"""An episode: one sampled answer, with its probabilities, rewards and values.

Shapes: T tokens of prompt and answer, N of the answer. In arrays ``_T``, the value of an answer's token
stands one position earlier, at the position that predicts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import Example
from engine.modeling import IGNORE

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Episode:
    """One answer.

    ``logprobs`` and ``reference`` are log π and log π_ref at the temperature of sampling, ``deployed``
    is log π/π_ref of the whole answer at temperature 1; ``values`` are critics' values, by name.
    """

    prompt: NDArray[np.int64]
    answer: NDArray[np.int64]
    logprobs: Floats
    reference: Floats
    deployed: float
    ended: bool
    rewards: Mapping[str, float]
    costs: Sequence[float]
    texts: tuple[str, str]
    values: Mapping[str, Floats]

    @property
    def kl(self) -> float:
        """Σ log π − log π_ref over the answer: k1."""
        return float((self.logprobs - self.reference).sum())

    def placed(self, values_N: Sequence[float] | Floats, fill: float = 0.0) -> Floats:
        """Places values of the answer's tokens, optionally with one after the last, in a row ``_T``."""
        row_T = np.full(len(self.prompt) + len(self.answer), fill, np.float32)
        first = len(self.prompt) - 1
        row_T[first : first + len(values_N)] = values_N
        return row_T

    def example(self, **columns_T: Floats) -> Example:
        """The example to train on: inputs, labels, and the objective's own ``columns_T``."""
        tokens = np.concatenate([self.prompt, self.answer])
        labels = np.full(len(tokens), IGNORE)
        labels[len(self.prompt) - 1 : -1] = self.answer
        fields = {
            "input_ids": tokens,
            "position_ids": np.arange(len(tokens)),
            "labels": labels,
            "logprobs": self.placed(self.logprobs),
            **columns_T,
        }
        return Example(len(tokens), fields)
