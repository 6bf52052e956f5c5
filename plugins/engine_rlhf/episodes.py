"""Rollouts: prompts answered by the model as it is, rewarded, and laid out to be learned from.

Arrays of an episode: T tokens of prompt and answer, N of the answer. What belongs to a token of the
answer stands at the place before it, from which it was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from engine import (
    IGNORE,
    BaseOnlineObjective,
    Batch,
    Context,
    Example,
    Generation,
    LanguageModel,
    Round,
    padded,
    seed_of,
)
from engine_rlhf.answers import as_text, prompt_example, scored
from engine_rlhf.config import Online, reward_name
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.multiplier import Multiplier, Penalty
from engine_rlhf.other_models import reference_model

Floats = NDArray[np.floating[Any]]
REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Episode:
    """One answer. ``logprobs`` and ``reference`` are at the temperature of sampling,
    ``deployed`` is log π/π_ref at temperature 1; ``values_K`` come from critics."""

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
        """Values of the answer's tokens (or of one place more) at the places they were drawn from,
        ``_T``."""
        row_T = np.full(len(self.prompt) + len(self.answer), fill, np.float32)
        first = len(self.prompt) - 1
        row_T[first : first + len(values_N)] = values_N
        return row_T

    def example(self, **columns_T: Floats) -> Example:
        """Inputs, labels, and what an objective adds."""
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


class OnlineObjective(DropoutOff, BaseOnlineObjective):
    """What all online objectives do alike; each has its own advantages and loss."""

    def __init__(self, config: Online, context: Context) -> None:
        self._config, self._context = config, context
        self.passes, self.mini_batches = config.passes, config.mini_batches
        self.episodes_per_prompt = getattr(config, "answers", 1)
        self._tokenizer = context.tokenizer()
        self._rewards = [(r, context.component("reward", r)) for r in config.rewards]
        self._costs = [(c, context.component("reward", c.reward)) for c in config.constraints]
        self._multipliers = [Multiplier(c) for c in config.constraints]
        self._penalty = Penalty(config.kl, getattr(config, "adaptive_kl", None))

    def estimates(self, episodes: Sequence[Episode]) -> list[list[Floats]]:
        """For the reward and then for each cost: what every episode was worth, not scaled yet."""
        raise NotImplementedError

    def examples(
        self, episodes: Sequence[Episode], estimates: Sequence[Sequence[Floats]]
    ) -> list[Example]:
        """The examples to learn from, with advantages by the :meth:`combined` estimates."""
        raise NotImplementedError

    def encode(self, record: Any, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """A prompt that leaves room for an answer. Raises RunError where a reward misses a column."""
        config = self._config
        asked = (*config.rewards, *(one.reward for one in config.constraints))
        return prompt_example(record, tokenizer, length - config.answer_tokens, asked)

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The reference, where there is a penalty for leaving it."""
        config = self._config
        if not config.kl:
            return {}
        return {REFERENCE: reference_model(model, config.reference, self._context)}

    def collect(
        self, number: int, prompts: Mapping[int, Example], models: Mapping[str, LanguageModel]
    ) -> list[Any]:
        """See :class:`engine.BaseOnlineObjective`."""
        each = self.episodes_per_prompt
        asked = [(place, again) for place in prompts for again in range(each)]
        ids = [prompts[place].fields["input_ids"].tolist() for place, _ in asked]
        requests = [
            Generation(
                "",
                max_tokens=self._config.answer_tokens,
                temperature=self._config.temperature,
                seed=seed_of(self._context.seed, number, *one),
            )
            for one in asked
        ]
        written = models["model"].rollouts(ids, requests)
        pairs = [(i, w.tokens) for i, w in zip(ids, written, strict=True)]
        own = models["model"].logprobs(pairs, self._config.temperature)
        reference = own
        if REFERENCE in models:
            reference = models[REFERENCE].logprobs(pairs, self._config.temperature)
        answers = [one.text for one in written]
        questions, rows = (
            [prompts[place].fields[name] for place, _ in asked] for name in ("prompt", "row")
        )
        rewards = scored([(reward_name(c), r) for c, r in self._rewards], questions, answers, rows)
        costs = scored(
            [(reward_name(c.reward), r) for c, r in self._costs], questions, answers, rows
        )
        values = self._values(pairs, models)
        return [
            Episode(
                prompt=np.array(pairs[i][0]),
                answer=np.array(pairs[i][1]),
                logprobs=own[i][1].float().cpu().numpy(),
                reference=reference[i][1].float().cpu().numpy(),
                deployed=float((own[i][0] - reference[i][0]).sum()),
                ended=written[i].ended,
                rewards={name: scores[i] for name, scores in rewards.items()},
                costs=[
                    config.reward.weight * scores[i]  # type: ignore[attr-defined]
                    for (config, _), scores in zip(self._costs, costs.values(), strict=True)
                ],
                texts=(as_text(questions[i]), answers[i]),
                values={name: rows[i] for name, rows in values.items()},
            )
            for i in range(len(pairs))
        ]

    def learn(self, episodes: Sequence[Any]) -> Round:
        """See :class:`engine.BaseOnlineObjective`."""
        examples = self.examples(episodes, self.estimates(episodes))
        figures = self._figures(episodes)
        table = [self._row(episode) for episode in episodes]
        for multiplier, costs in zip(
            self._multipliers, zip(*(e.costs for e in episodes), strict=True), strict=True
        ):
            multiplier.move(float(np.mean(costs)))
        self._penalty.move(figures["kl"], len(episodes))
        return Round(examples, figures, table)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Episodes side by side, padded with documents of their own."""
        inputs = {name: padded(examples, name) for name in ("input_ids", "position_ids")}
        labels_BT = padded(examples, "labels", IGNORE)
        targets = {
            name: padded(examples, name)
            for name in examples[0].fields
            if name not in ("input_ids", "position_ids", "labels")
        }
        tokens = int((labels_BT != IGNORE).sum())
        return Batch(
            inputs=inputs,
            targets={"labels": labels_BT, **targets},
            counts=self.counts(examples, tokens),
            tokens=sum(e.length for e in examples),
        )

    def counts(self, examples: Sequence[Example], tokens: int) -> dict[str, int]:
        """How many terms the loss has: as many as there are answers' tokens."""
        return {"policy": tokens, "metric/clipped": tokens, "metric/approx_kl": tokens}

    def state(self) -> dict[str, Any]:
        """See :class:`engine.BaseOnlineObjective`."""
        return {
            "penalty": self._penalty.value,
            "multipliers": [multiplier.log for multiplier in self._multipliers],
        }

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.BaseOnlineObjective`."""
        self._penalty.value = state["penalty"]
        for multiplier, log in zip(self._multipliers, state["multipliers"], strict=True):
            multiplier.log = log

    def total(self, episode: Episode) -> float:
        """An episode's reward: weighted, less its penalties, clipped."""
        config = self._config
        total = sum(
            reward.weight * value  # type: ignore[attr-defined]
            for (reward, _), value in zip(self._rewards, episode.rewards.values(), strict=True)
        )
        if config.missing_eos_penalty and not episode.ended:
            total -= config.missing_eos_penalty
        if config.length_penalty:
            total -= config.length_penalty * len(episode.answer)
        if config.reward_clip:
            total = min(max(total, -config.reward_clip), config.reward_clip)
        return float(total)

    def combined(self, estimates: Sequence[Sequence[Floats]]) -> list[Floats]:
        """(A_r − Σ λ·A_c) / (1 + Σ λ) (Dai et al. 2023, equation 11, for several costs)."""
        weights = [multiplier.value for multiplier in self._multipliers]
        whole = 1 + sum(weights)
        return [
            (reward - sum(w * cost for w, cost in zip(weights, costs, strict=True))) / whole
            for reward, *costs in zip(*estimates, strict=True)
        ]

    def _values(
        self, pairs: Sequence[tuple[list[int], list[int]]], models: Mapping[str, LanguageModel]
    ) -> dict[str, list[Floats]]:
        """What critics say at the prompt's end and at every token of the answer, ``_N+1``."""
        return {
            name: [
                v[len(prompt) - 1 :].cpu().numpy()
                for v, (prompt, _) in zip(
                    lm.values([[*p, *a] for p, a in pairs]), pairs, strict=True
                )
            ]
            for name, lm in models.items()
            if name not in ("model", REFERENCE)
        }

    def _figures(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Means over the round's episodes."""
        figures = {"reward": _mean(self.total(e) for e in episodes)}
        for name in episodes[0].rewards:
            figures[f"reward/{name}"] = _mean(e.rewards[name] for e in episodes)
        figures |= {
            "kl": _mean(e.kl for e in episodes),
            "kl_deployment": _mean(e.deployed for e in episodes),
            "kl_penalty": self._penalty.value,
            "entropy": _mean(-float(e.logprobs.sum()) for e in episodes),
            "answer_tokens": _mean(len(e.answer) for e in episodes),
            "ended": _mean(e.ended for e in episodes),
        }
        for i, (config, _) in enumerate(self._costs):
            name, limit = reward_name(config.reward), config.limit
            figures[f"cost/{name}"] = _mean(e.costs[i] for e in episodes)
            figures[f"violations/{name}"] = _mean(e.costs[i] > limit for e in episodes)
            figures[f"lambda/{name}"] = self._multipliers[i].value
        return figures

    def _row(self, episode: Episode) -> dict[str, Any]:
        """For a person to read."""
        costs = {
            f"cost/{reward_name(c.reward)}": cost
            for (c, _), cost in zip(self._costs, episode.costs, strict=True)
        }
        rewards = {f"reward/{name}": value for name, value in episode.rewards.items()}
        figures = {**rewards, **costs, "kl": episode.kl}
        told = {name: round(value, 4) for name, value in figures.items()}
        prompt, answer = episode.texts
        return {"prompt": prompt, "answer": answer, "ended": episode.ended, **told}


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
