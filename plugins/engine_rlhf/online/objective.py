"""What PPO, RLOO and GRPO share: a round of rollouts, from prompts to examples.

The current model answers prompts, rewards score the answers, and the episodes become examples to train
on. Shapes: T tokens of prompt and answer, N of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from engine import (
    Batch,
    Context,
    Example,
    Generation,
    LanguageModel,
    Record,
    seed_of,
)
from engine.modeling import IGNORE, RewardSum, padded
from engine_rlhf.config.online import Online
from engine_rlhf.config.rewards import reward_name
from engine_rlhf.dropout import DropoutOff
from engine_rlhf.online.coefficients import Multiplier, Penalty
from engine_rlhf.online.episode import Episode, Floats
from engine_rlhf.online.prompts import as_text, prompt_example
from engine_rlhf.online.rollout_objective import RolloutObjective
from engine_rlhf.online.rounds import Round
from engine_rlhf.stage_models import reference_model

REFERENCE = "reference"


class OnlineObjective(DropoutOff, RolloutObjective):
    """Base class of the online objectives; a subclass adds its advantages and its loss."""

    _config: Online

    def __init__(self, config: Online, context: Context) -> None:
        self._config, self._context = config, context
        self.passes, self.mini_batches = config.passes, config.mini_batches
        self.episodes_per_prompt = getattr(config, "answers", 1)
        self._tokenizer = context.tokenizer()
        self._rewards = RewardSum(config.rewards, context)
        self._costs = RewardSum([c.reward for c in config.constraints], context)
        self._multipliers = [Multiplier(c) for c in config.constraints]
        self._penalty = Penalty(config.kl, getattr(config, "adaptive_kl", None))

    def estimates(self, episodes: Sequence[Episode]) -> list[list[Floats]]:
        """Unscaled advantages of every episode: a list for the reward, then one for each cost."""
        raise NotImplementedError

    def examples(
        self, episodes: Sequence[Episode], estimates: Sequence[Sequence[Floats]]
    ) -> list[Example]:
        """The examples to train on; their advantages are the :meth:`combined` estimates."""
        raise NotImplementedError

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """A prompt that leaves room for an answer. Raises RunError where a reward lacks a column."""
        config = self._config
        asked = (*config.rewards, *(one.reward for one in config.constraints))
        return prompt_example(record, tokenizer, length - config.answer_tokens, asked)

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The reference model, where the KL penalty is not 0."""
        config = self._config
        if not config.kl:
            return {}
        return {REFERENCE: reference_model(model, config.reference, self._context)}

    def collect(
        self, number: int, prompts: Mapping[int, Example], models: Mapping[str, LanguageModel]
    ) -> list[Any]:
        """See :class:`RolloutObjective`."""
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
        rewards = self._rewards.score(questions, answers, rows)
        costs = self._costs.score(questions, answers, rows)
        values = self._values(pairs, models)
        return [
            Episode(
                prompt=np.array(prompt),
                answer=np.array(answer),
                logprobs=own[at][1].float().cpu().numpy(),
                reference=reference[at][1].float().cpu().numpy(),
                deployed=float((own[at][0] - reference[at][0]).sum()),
                ended=written[at].ended,
                rewards=rewards[at],
                costs=list(self._costs.weighted(costs[at]).values()),
                texts=(as_text(questions[at]), answers[at]),
                values={name: rows[at] for name, rows in values.items()},
            )
            for at, (prompt, answer) in enumerate(pairs)
        ]

    def learn(self, episodes: Sequence[Any]) -> Round:
        """See :class:`RolloutObjective`."""
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
        """Puts each episode in a row of its own; padding forms separate documents."""
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
        """The number of terms in the loss: one for each of the answers' ``tokens``."""
        return {"policy": tokens, "metric/clipped": tokens, "metric/approx_kl": tokens}

    def state(self) -> dict[str, Any]:
        """See :class:`RolloutObjective`."""
        return {
            "penalty": self._penalty.value,
            "multipliers": [multiplier.log for multiplier in self._multipliers],
        }

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`RolloutObjective`."""
        self._penalty.value = state["penalty"]
        for multiplier, log in zip(self._multipliers, state["multipliers"], strict=True):
            multiplier.log = log

    def total(self, episode: Episode) -> float:
        """The reward of an episode: the weighted sum minus penalties, clipped."""
        config = self._config
        total = self._rewards.total(episode.rewards)
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
        """Critics' values at the prompt's end and at every token of the answer, ``_N+1``, by critic."""
        return {
            name: [
                found[len(prompt) - 1 :].cpu().numpy()
                for found, (prompt, _) in zip(
                    lm.values([[*p, *a] for p, a in pairs]), pairs, strict=True
                )
            ]
            for name, lm in models.items()
            if name not in ("model", REFERENCE)
        }

    def _figures(self, episodes: Sequence[Episode]) -> dict[str, float]:
        """Means over the episodes of the round."""
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
        for number, config in enumerate(self._config.constraints):
            name, limit = reward_name(config.reward), config.limit
            figures[f"cost/{name}"] = _mean(e.costs[number] for e in episodes)
            figures[f"violations/{name}"] = _mean(e.costs[number] > limit for e in episodes)
            figures[f"lambda/{name}"] = self._multipliers[number].value
        return figures

    def _row(self, episode: Episode) -> dict[str, Any]:
        """The episode's row in the table of the round."""
        costs = {
            f"cost/{reward_name(c.reward)}": cost
            for c, cost in zip(self._config.constraints, episode.costs, strict=True)
        }
        rewards = {f"reward/{name}": value for name, value in episode.rewards.items()}
        figures = {**rewards, **costs, "kl": episode.kl}
        told = {name: round(value, 4) for name, value in figures.items()}
        prompt, answer = episode.texts
        return {"prompt": prompt, "answer": answer, "ended": episode.ended, **told}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
