"""An episode: one sampled answer, with its probabilities, rewards and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import Example
from engine.modeling import answer_example

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

    def example(self, **columns: Floats) -> Example:
        """The example to train on, with the objective's own ``columns``, see :func:`answer_example`."""
        return answer_example(self.prompt, self.answer, logprobs=self.logprobs, **columns)
