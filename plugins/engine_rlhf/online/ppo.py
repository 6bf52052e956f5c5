"""PPO: advantages from a critic that is trained with the policy.

Shapes: B rows, T positions, N tokens of an answer, S steps of an episode: the answer's tokens, plus the
state after the last one if the answer ended early. The last step gets the reward (Huang et al. 2024,
details 10 and 12).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from engine import (
    Batch,
    Context,
    Example,
    Loss,
)
from engine.modeling import with_scalar_head
from engine_rlhf.config.online import PPO
from engine_rlhf.config.rewards import reward_name
from engine_rlhf.online.episode import Episode, Floats
from engine_rlhf.online.objective import OnlineObjective
from engine_rlhf.online.policy_loss import clipped_loss, logprobs, ratio_metrics, whiten
from engine_rlhf.online.rounds import Companion
from engine_rlhf.stage_models import model_of

_VALUE = "value"


class PPOObjective(OnlineObjective):
    """PPO's objective for the policy; the critics are companions."""

    _config: PPO

    def __init__(self, config: PPO, context: Context) -> None:
        super().__init__(config, context)
        costs = (f"{_VALUE}-{reward_name(c.reward)}" for c in config.constraints)
        self._critics = (_VALUE, *costs)

    def companions(self, model: nn.Module) -> Mapping[str, Companion]:
        """A critic of the reward, and one for each cost."""
        companions = {}
        for name in self._critics:
            start = copy.deepcopy(model)
            if self._config.value is not None:
                start = model_of(self._config.value, "value", self._context)
            critic = with_scalar_head(start, self._context.seed)
            critic.train().requires_grad_(True)
            self.attach(critic)
            companions[name] = Companion(critic, Critic(self._config, name))
        return companions

    def estimates(self, episodes: Sequence[Episode]) -> list[list[Floats]]:
        """See :class:`OnlineObjective`; advantages ``_S``."""
        found = []
        for number, name in enumerate(self._critics):
            rewards = [self._per_step(e, number) for e in episodes]
            if number == 0 and self._config.whiten_rewards:
                rewards = whiten(rewards, shift=False, unbiased=self._unbiased)
            values = [e.values[name][: len(r)] for e, r in zip(episodes, rewards, strict=True)]
            found.append(
                [
                    gae(reward_S, values_S, self._config.gamma, self._config.gae_lambda)
                    for reward_S, values_S in zip(rewards, values, strict=True)
                ]
            )
        return found

    def examples(
        self, episodes: Sequence[Episode], estimates: Sequence[Sequence[Floats]]
    ) -> list[Example]:
        """See :class:`OnlineObjective`; critics learn advantage + value, the return."""
        combined = zip(episodes, self.combined(estimates), strict=True)
        white = whiten([a_S[: len(e.answer)] for e, a_S in combined], unbiased=self._unbiased)
        examples = []
        for episode, advantage_N, *own in zip(episodes, white, *estimates, strict=True):
            columns = {"advantages": advantage_N}
            for name, advantage_S in zip(self._critics, own, strict=True):
                values_S = episode.values[name][: len(advantage_S)]
                columns[f"{name}/old"] = values_S
                columns[f"{name}/return"] = advantage_S + values_S
            steps_S = np.ones(self._steps(episode), np.float32)
            examples.append(episode.example(**columns, steps=steps_S))
        return examples

    def counts(self, examples: Sequence[Example], tokens: int) -> dict[str, int]:
        """See :class:`OnlineObjective`; also one term of each critic for every step."""
        steps = int(sum(float(e.fields["steps"].sum()) for e in examples))
        return {**super().counts(examples, tokens), **dict.fromkeys(self._critics, steps)}

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The clipped policy loss, summed over the answers' tokens."""
        own_BT = logprobs(hidden_BTD, head, batch, self._config.temperature)
        log_ratio_BT = own_BT - batch.targets["logprobs"]
        loss_BT = clipped_loss(log_ratio_BT, batch.targets["advantages"], self._config.clip)
        return {"policy": loss_BT.sum(), **ratio_metrics(log_ratio_BT, batch, self._config.clip)}

    @property
    def _unbiased(self) -> bool:
        return self._config.whitening == "unbiased"

    def _steps(self, episode: Episode) -> int:
        """Steps of an episode: its tokens, plus one if the answer ended early."""
        return min(len(episode.answer) + 1, self._config.answer_tokens)

    def _per_step(self, episode: Episode, number: int) -> Floats:
        """Rewards ``_S``: the KL penalty at every token, the episode's reward (or cost) at the end."""
        rewards_S = np.zeros(self._steps(episode), np.float32)
        if number == 0:
            kl_N = episode.logprobs - episode.reference
            rewards_S[: len(kl_N)] -= np.float32(self._penalty.value) * kl_N
        rewards_S[-1] += self.total(episode) if number == 0 else episode.costs[number - 1]
        return rewards_S


class Critic(Loss):
    """A critic: ½·max((V − R)², (clip(V, V_old ± ε) − R)²) at every step of an episode."""

    def __init__(self, config: PPO, name: str) -> None:
        self._config, self._name = config, name

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The weighted loss, summed over steps."""
        value_BT = head(hidden_BTD)[..., 0].float()
        old_BT = batch.targets[f"{self._name}/old"]
        return_BT = batch.targets[f"{self._name}/return"]
        near_BT = value_BT.clamp(old_BT - self._config.value_clip, old_BT + self._config.value_clip)
        worse_BT = torch.maximum((value_BT - return_BT).square(), (near_BT - return_BT).square())
        total = (0.5 * worse_BT * batch.targets["steps"]).sum()
        return {self._name: self._config.value_weight * total}


def gae(rewards_S: Floats, values_S: Floats, gamma: float, lam: float) -> Floats:
    """Advantages Σ_k (γλ)^k δ_{t+k}, where δ_t = r_t + γ V_{t+1} − V_t and V = 0 after the end
    (Schulman et al. 2016)."""
    advantages_S = np.zeros_like(rewards_S)
    last, following = 0.0, 0.0
    for t in range(len(rewards_S) - 1, -1, -1):
        last = rewards_S[t] + gamma * following - values_S[t] + gamma * lam * last
        advantages_S[t], following = last, values_S[t]
    return advantages_S


def build(config: PPO, context: Context) -> PPOObjective:
    """Builds the objective."""
    return PPOObjective(config, context)
