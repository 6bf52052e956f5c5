"""Answers that a model samples to held-out prompts: their rewards, and its divergence.

Every model is asked with the same seeds, so that two are compared prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from engine import (
    Completion,
    Context,
    Generation,
    Item,
    LanguageModel,
    Preference,
    Prompt,
    Response,
    RunError,
    Score,
    attend,
    prompt_tokens,
    ratio,
    seed_of,
)
from engine_rlhf.answers import plain, row_of, scored
from engine_rlhf.config import reward_name
from engine_rlhf.evaluator_config import AnswerReward

_ROUNDING = 4
"""Decimals of a divergence that mean something: its two terms come from other batches."""

Row = dict[str, float]


class AnswerRewardEvaluator:
    """Asks for an answer to every prompt; rewards and reference are asked of many at once."""

    def __init__(self, config: AnswerReward, context: Context) -> None:
        self._config, self._context = config, context
        self._rewards = [(reward_name(r), context.component("reward", r)) for r in config.rewards]
        self._costs = [(reward_name(c), context.component("reward", c)) for c in config.costs]
        self._reference = None if config.reference is None else _opened(config.reference, context)
        self._records = _prompts(config, context)

    def items(self) -> Iterator[Item]:
        """A prompt is an item."""
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
        """The weighted ``reward``, each reward and cost by its name, and the answer's ``kl``: log π −
        log π_ref."""
        records = [item.data for item in items]
        prompts, texts = (
            [plain(record.prompt) for record in records],
            [r.text for (r,) in responses],
        )
        further = [row_of(record) for record in records]
        rewards = scored(self._rewards, prompts, texts, further)
        costs = scored(self._costs, prompts, texts, further)
        weights = [reward.weight for reward in self._config.rewards]  # type: ignore[attr-defined]
        factors = [cost.weight for cost in self._config.costs]  # type: ignore[attr-defined]
        rows: list[Row] = []
        for number, (response,) in enumerate(responses):
            own = {f"reward/{name}": values[number] for name, values in rewards.items()}
            total = sum(w * value for w, value in zip(weights, own.values(), strict=True))
            rows.append(
                {
                    "reward": total,
                    **(own if len(own) > 1 else {}),
                    **{
                        f"cost/{name}": factor * values[number]
                        for factor, (name, values) in zip(factors, costs.items(), strict=True)
                    },
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
        """How much more reward there is, and how much less of each cost, prompt by prompt."""
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
        """Of every answer; none without a reference."""
        if self._reference is None:
            return []
        lm, most = self._reference, self._config.answer_tokens
        rows = [
            (lm.fitting(item.requests[0].prompt, most), one.ids)  # type: ignore[union-attr]
            for item, (one,) in zip(items, responses, strict=True)
        ]
        given = self._reference.logprobs(rows)
        return [
            round(one.logprob - float(logprob_T.double().sum()), _ROUNDING)
            for (one,), (logprob_T, _) in zip(responses, given, strict=True)
        ]


def _prompts(config: AnswerReward, context: Context) -> list[Any]:
    """Held-out records with a prompt, looked at now: in a train stage this is before the first step.

    Raises RunError where there is none, or a reward misses a column.
    """
    found = [r for r in context.held_out() if isinstance(r, Prompt | Completion | Preference)]
    if not found:
        raise RunError(
            "evaluator 'answer-reward': no held-out record has a prompt",
            mend="let `data` name a train stage with prompts, and a `holdout`",
        )
    for record in found:
        row_of(record, (*config.rewards, *config.costs))
    return found


def _opened(stage: str, context: Context) -> LanguageModel:
    """The reference. Raises RunError where it reads other ids than the model writes."""
    artifact = context.artifact(stage)
    model: Any = artifact.model()
    attend(model)
    lm = LanguageModel(model.to(context.device).eval(), artifact.tokenizer())
    if lm.tokenizer.get_vocab() != context.tokenizer().get_vocab():
        raise RunError(
            f"evaluator 'answer-reward': reference '{stage}' has another tokenizer than the model, "
            "whose ids it would read",
            mend="name a stage that it descends from, or leave `reference` out",
        )
    return lm


def _more_is_better(name: str) -> bool:
    return name not in ("kl", "answer_tokens") and not name.startswith("cost/")


def _mean(name: str, values: Sequence[float], *, better: bool = True) -> Score:
    value, error = ratio(values, [1.0] * len(values))
    return Score(name, value, error, len(values), higher_is_better=better)


def build(config: AnswerReward, context: Context) -> AnswerRewardEvaluator:
    """The evaluator. Raises RunError where a reward or the reference cannot be opened, and where the
    held-out records are not what it needs."""
    return AnswerRewardEvaluator(config, context)
