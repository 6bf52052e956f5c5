"""The loss L = E + A·N^−α + B·D^−β of N parameters after D tokens, and what repeated data is worth.

Hoffmann et al. 2022 ("Training Compute-Optimal Large Language Models", section 3.3); Muennighoff et al.
2023 ("Scaling Data-Constrained Language Models", section 3). Training takes C = 6·N·D FLOPs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from engine.errors import SpecError
from engine.files.reading import read_json

FLOPS = 6
"""FLOPs of training for each parameter and token."""
REPEATS = 15.387756
"""R*_D of Muennighoff et al. 2023: repetitions of data after which its worth has fallen by 1/e."""
_FORMAT = 1

Counted = Literal["all", "body"]
"""The parameters that N counts: all, or all but embedding and head."""


@dataclass(frozen=True, slots=True)
class ScalingLaw:
    """The constants of a law. ``counted``: the parameters that N counts."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float
    counted: Counted = "all"

    def loss(self, parameters: float, tokens: float) -> float:
        """The loss of ``parameters``, as this law counts them, after ``tokens``, which are effective
        ones where data is repeated."""
        return float(self.E + self.A * parameters**-self.alpha + self.B * tokens**-self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """The parameters and tokens of least loss for ``flops`` (Hoffmann et al., equation 4):
        N = G·(C/6)^a with G = (αA/βB)^(1/(α+β)) and a = β/(α+β)."""
        balance = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        share = self.beta / (self.alpha + self.beta)
        parameters = balance * (flops / FLOPS) ** share
        return parameters, flops / FLOPS / parameters


PUBLISHED_LAWS: Mapping[str, ScalingLaw] = {
    "Besiroglu et al. 2024": ScalingLaw(1.8172, 482.01, 0.34781, 2085.43, 0.36585),
    "Hoffmann et al. 2022": ScalingLaw(1.69, 406.4, 0.34, 410.7, 0.28),
}
"""Laws by their source, the most trusted first: "Chinchilla Scaling: A replication attempt", a refit of
the second one's data; the second's own constants of approach 3, as rounded in its equation 10."""


def effective_tokens(unique: float, tokens: float, repeats: float = REPEATS) -> float:
    """The fresh tokens that are worth ``tokens``, of which only ``unique`` are different:
    U·(1 + R*·(1 − e^(−R/R*))) with R repetitions after the first epoch (Muennighoff et al., eq. 5).
    """
    if tokens <= unique:
        return tokens
    repeated = tokens / unique - 1
    return unique * (1 - repeats * math.expm1(-repeated / repeats))


@dataclass(frozen=True, slots=True)
class Forecast:
    """A loss with its interval of 95 %."""

    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FittedLaw:
    """A law fitted to runs, as `engine scaling fit` writes it.

    ``best``: the law that is believed; ``draws``: as many laws as were fitted to resampled runs, of all
    variants that are not clearly worse; ``groups``: how many of them each variant has, in order,
    empty if all are of one; ``noise``: standard deviation of a run's loss around the law, relative;
    ``metric``: what the loss is; ``tokenizer`` and ``held_out``: fingerprints of what the losses were
    measured with, empty if unknown; ``flops``: range of the fitted runs' FLOPs; ``repeats``: R* of
    :func:`effective_tokens` that its tokens were counted with; ``drawn_repeats``: each draw's own R*,
    empty if all have this one.
    """

    best: ScalingLaw
    draws: tuple[ScalingLaw, ...]
    noise: float
    metric: str
    flops: tuple[float, float]
    tokenizer: str = ""
    held_out: str = ""
    groups: tuple[int, ...] = ()
    repeats: float = REPEATS
    drawn_repeats: tuple[float, ...] = ()

    def predict(
        self,
        parameters: float,
        body: float,
        tokens: float,
        worth: Callable[[float], float] | None = None,
    ) -> Forecast:
        """The loss of a run with so many ``parameters``, of which ``body`` are neither embedding nor
        head, after ``tokens``; its interval spans that of each variant's draws and the noise.

        ``worth``: where data is repeated, the effective tokens for an R*, of which each draw has its
        own (see :func:`effective_tokens`).
        """

        def one(law: ScalingLaw, repeats: float) -> float:
            fresh = worth(repeats) if worth else tokens
            return law.loss(parameters if law.counted == "all" else body, fresh)

        drawn = self.drawn_repeats or (self.repeats,) * len(self.draws)
        low, high = self.span([one(*each) for each in zip(self.draws, drawn, strict=True)])
        best = one(self.best, self.repeats)
        spread = 1.96 * self.noise * best
        return Forecast(
            best,
            best - math.hypot(best - min(low, best), spread),
            best + math.hypot(max(high, best) - best, spread),
        )

    def span(self, drawn: Sequence[float]) -> tuple[float, float]:
        """The interval of 95 % of a figure with these values for the draws: from the lowest to the
        highest end of the variants' intervals."""
        ends, start = [], 0
        for size in self.groups or (len(drawn),):
            group = sorted(drawn[start : start + size])
            ends.append((_quantile(group, 0.025), _quantile(group, 0.975)))
            start += size
        return min(low for low, _ in ends), max(high for _, high in ends)

    def text(self) -> str:
        """The content of a law's file."""
        return json.dumps({"law": _FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def read(cls, file: Path) -> Self:
        """Reads a law's file. Raises SpecError."""
        try:
            data = read_json(file)
            if data.pop("law") != _FORMAT:
                raise ValueError("its format is of another version")
            best = data["best"] = _law(data["best"])
            if best.E < 0 or min(best.A, best.alpha, best.B, best.beta) <= 0:
                raise ValueError("its loss does not fall with parameters and tokens")
            data["draws"] = tuple(_law(draw) for draw in data["draws"]) or (data["best"],)
            data["groups"] = tuple(map(int, data.get("groups", ())))
            if data["groups"] and (
                min(data["groups"]) < 1 or sum(data["groups"]) != len(data["draws"])
            ):
                raise ValueError("its groups are not those of its draws")
            low, high = map(float, data["flops"])
            data["noise"], data["repeats"] = (
                float(data["noise"]),
                float(data.get("repeats", REPEATS)),
            )
            data["drawn_repeats"] = tuple(map(float, data.get("drawn_repeats", ())))
            if len(data["drawn_repeats"]) not in (0, len(data["draws"])):
                raise ValueError("its values of R* are not those of its draws")
            repeats = (data["repeats"], *data["drawn_repeats"])
            if not 0 <= data["noise"] < math.inf or not all(0 < r < math.inf for r in repeats):
                raise ValueError("its noise or R* is no such number")
            if not 0 < low <= high < math.inf:
                raise ValueError("its FLOPs are no range")
            return cls(**{**data, "flops": (low, high)})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = " ".join(str(error).split())
            raise SpecError(
                f"{file}: is no law ({why})", hint="`engine scaling fit … --law FILE` writes one"
            ) from error


def _law(data: Mapping[str, Any]) -> ScalingLaw:
    numbers = {name: float(data[name]) for name in ("E", "A", "alpha", "B", "beta")}
    if not all(map(math.isfinite, numbers.values())) or data["counted"] not in ("all", "body"):
        raise ValueError(f"{dict(data)} are no constants of a law")
    return ScalingLaw(**numbers, counted=data["counted"])


def _quantile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
