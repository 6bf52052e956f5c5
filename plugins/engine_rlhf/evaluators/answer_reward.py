"""Evaluator ``answer-reward``: rewards of a model's sampled answers to held-out prompts, and its
divergence from a reference.

All models sample with the same seeds, so that two models can be compared prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine import (
    Context,
    Evaluator,
    Generation,
    Item,
    LanguageModel,
    Response,
    RunError,
    Score,
    seed_of,
)
from engine.modeling import RewardSum, attend, prompt_tokens, ratio
from engine_rlhf.config.evaluators import AnswerReward
from engine_rlhf.rewards.scoring import Prompted, reward_prompt, row_of

_ROUNDING = 4
"""Decimals of a divergence that are reliable, as its two terms come from different batches."""

Row = dict[str, float]


class AnswerRewardEvaluator(Evaluator):
    """Samples an answer to every prompt, and scores all answers in one call of each reward."""

    def __init__(self, config: AnswerReward, context: Context) -> None:
        self._config, self._context = config, context
        self._rewards = RewardSum(config.rewards, context)
        self._costs = RewardSum(config.costs, context)
        self._reference = None if config.reference is None else _opened(config.reference, context)
        self._records = _prompts(config, context)

    def items(self) -> Iterator[Item]:
        """One item for each prompt."""
        config, tokenizer = self._config, self._context.tokenizer()
        for record in self._records:
            request = Generation(
                tuple(prompt_tokens(tokenizer, record.prompt, record.tools)),
                max_tokens=config.answer_tokens,
                temperature=config.temperature,
                seed=seed_of(self._context.seed, record.id),
            )
            yield Item(record.id, (request,), record)

    def score(self, item: Item, responses: Sequence[Response]) -> Row:
        """See :meth:`score_all`."""
        return self.score_all([item], [responses])[0]

    def score_all(
        self, items: Sequence[Item], responses: Sequence[Sequence[Response]]
    ) -> list[Row]:
        """Scores each answer: the weighted ``reward``, every reward and cost by its name, and ``kl``,
        which is log π − log π_ref."""
        records = [item.data for item in items]
        prompts = [reward_prompt(record.prompt) for record in records]
        texts = [response.text for (response,) in responses]
        further = [row_of(record) for record in records]
        rewards = self._rewards.score(prompts, texts, further)
        costs = self._costs.score(prompts, texts, further)
        rows: list[Row] = []
        for (response,), scores, cost in zip(responses, rewards, costs, strict=True):
            own = {f"reward/{name}": value for name, value in scores.items()}
            paid = self._costs.weighted(cost)
            rows.append(
                {
                    "reward": self._rewards.total(scores),
                    **(own if len(own) > 1 else {}),
                    **{f"cost/{name}": value for name, value in paid.items()},
                    "answer_tokens": response.tokens,
                    "ended": float(response.ended),
                }
            )
        for row, kl in zip(rows, self._divergences(items, responses), strict=False):
            row["kl"] = kl
        return rows

    def summarise(self, rows: Sequence[Row]) -> list[Score]:
        """Means over prompts."""
        return [
            _mean(name, [row[name] for row in rows], better=_more_is_better(name))
            for name in (rows[0] if rows else ())
        ]

    def compare(self, rows: Sequence[Row], baseline: Sequence[Row]) -> list[Score]:
        """Mean differences over prompts: the gain in reward, and the reduction of each cost."""
        pairs = list(zip(rows, baseline, strict=True))
        found = [_mean("gain", [new["reward"] - old["reward"] for new, old in pairs])]
        for name in rows[0] if rows else ():
            if name.startswith("cost/"):
                saved = [old[name] - new[name] for new, old in pairs]
                found.append(_mean(name.replace("cost", "saved", 1), saved))
        return found

    def _divergences(
        self, items: Sequence[Item], responses: Sequence[Sequence[Response]]
    ) -> list[float]:
        """The divergence of every answer; an empty list without a reference."""
        if self._reference is None:
            return []
        lm, most = self._reference, self._config.answer_tokens
        rows = [
            (lm.fitting(_prompt_ids(item), most), one.ids)
            for item, (one,) in zip(items, responses, strict=True)
        ]
        given = self._reference.logprobs(rows)
        return [
            round(one.logprob - float(logprob_T.double().sum()), _ROUNDING)
            for (one,), (logprob_T, _) in zip(responses, given, strict=True)
        ]


def _prompt_ids(item: Item) -> tuple[int, ...]:
    """The tokens of the item's prompt."""
    (request,) = item.requests
    assert isinstance(request, Generation)
    assert isinstance(request.prompt, tuple)
    return request.prompt


def _prompts(config: AnswerReward, context: Context) -> list[Prompted]:
    """Held-out records with a prompt, checked when the evaluator is built, before a stage's first step.

    Raises RunError where there is none, or where a reward lacks a column.
    """
    found = [r for r in context.held_out() if isinstance(r, Prompted)]
    if not found:
        raise RunError(
            "evaluator 'answer-reward': no held-out record has a prompt",
            hint="let `data` name a train stage with prompts, and a `holdout`",
        )
    for record in found:
        row_of(record, (*config.rewards, *config.costs))
    return found


def _opened(stage: str, context: Context) -> LanguageModel:
    """Opens the reference. Raises RunError where its tokenizer is not the model's."""
    artifact = context.artifact(stage)
    model: Any = artifact.model()
    attend(model)
    lm = context.language_model(model.to(context.device).eval(), artifact.tokenizer())
    if lm.tokenizer.get_vocab() != context.tokenizer().get_vocab():
        raise RunError(
            f"evaluator 'answer-reward': reference '{stage}' has another tokenizer than the model, "
            "so it cannot read the model's token ids",
            hint="name a stage that the model was trained from, or leave `reference` out",
        )
    return lm


def _more_is_better(name: str) -> bool:
    return name not in ("kl", "answer_tokens") and not name.startswith("cost/")


def _mean(name: str, values: Sequence[float], *, better: bool = True) -> Score:
    value, error = ratio(values, [1.0] * len(values))
    return Score(name, value, error, len(values), higher_is_better=better)


def build(config: AnswerReward, context: Context) -> AnswerRewardEvaluator:
    """Builds the evaluator.

    Raises RunError where a reward or the reference cannot be opened, or a held-out record cannot be
    used.
    """
    return AnswerRewardEvaluator(config, context)
