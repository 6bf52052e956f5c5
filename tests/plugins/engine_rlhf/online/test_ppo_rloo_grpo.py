"""What PPO, RLOO and GRPO are made of, against closed forms, published vectors and TRL."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_rlhf.config.online import GRPO, PPO, RLOO
from engine_rlhf.config.rewards import Length
from engine_rlhf.online.episode import Episode
from engine_rlhf.online.group import build_grpo, build_rloo
from engine_rlhf.online.policy_loss import clipped_loss, whiten
from engine_rlhf.online.ppo import Critic, build, gae

from engine import Batch

ROWS = np.array([[1.2, 1.3, 1.4], [1.5, 1.6, 1.7], [1.8, 1.9, 2.0]], np.float32)


@pytest.mark.covers("objective/ppo.whitening")
@pytest.mark.parametrize(
    ("unbiased", "first"), [(False, [0.0508, 0.4381, 0.8254]), (True, [0.1394, 0.5046, 0.8697])]
)
def test_whitening_gives_the_published_vector(unbiased, first, monkeypatch):
    """Huang et al. 2024, detail 13, without a shift of the mean; and TRL's, over n − 1."""
    found = whiten(list(ROWS), shift=False, unbiased=unbiased)
    assert found[0] == pytest.approx(first, abs=1e-4)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.ppo.ppo_trainer import masked_whiten

    if unbiased:
        mask = torch.ones(3, 3, dtype=torch.bool)
        theirs = masked_whiten(torch.from_numpy(ROWS), mask, shift_mean=False)
        np.testing.assert_allclose(np.stack(found), theirs.numpy(), atol=1e-5)


def test_whitened_values_have_mean_nought_and_variance_one():
    """Over all rows, however unequal."""
    rows = [np.random.default_rng(i).normal(3, 2, 3 + i).astype(np.float32) for i in range(5)]
    flat = np.concatenate(whiten(rows)).astype(np.float64)
    assert flat.mean() == pytest.approx(0, abs=1e-6)
    assert flat.var() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_advantages_are_the_weighted_sum_of_errors(gamma, lam):
    """Σ_k (γλ)^k δ_{t+k}, summed as it is written, in float64."""
    generator = np.random.default_rng(0)
    rewards, values = generator.normal(size=(2, 7))
    following = np.append(values[1:], 0)
    errors = rewards + gamma * following - values
    expected = [sum((gamma * lam) ** (k - t) * errors[k] for k in range(t, 7)) for t in range(7)]
    found = gae(rewards.astype(np.float32), values.astype(np.float32), gamma, lam)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.covers("objective/ppo.value_weight", "objective/ppo.value_clip")
def test_the_critic_loses_by_the_worse_of_two_errors():
    """½·max of the squares, only at steps, times its weight; a closed form."""
    hidden_BTD = torch.tensor([[[0.0], [1.0], [3.0]]])
    targets = {
        "value/old": torch.tensor([[0.0, 0.5, 1.0]]),
        "value/return": torch.tensor([[9.0, 1.5, 1.0]]),
        "steps": torch.tensor([[0.0, 1.0, 1.0]]),
    }
    batch = Batch({}, targets, {}, 0)
    head = torch.nn.Identity()
    for weight, clip in ((0.1, 0.2), (1.0, 0.2), (1.0, 5.0)):
        config = PPO(rewards=[Length(name="r")], value_weight=weight, value_clip=clip)
        near = min(max(1.0, 0.5 - clip), 0.5 + clip), min(max(3.0, 1 - clip), 1 + clip)
        one = max((1.0 - 1.5) ** 2, (near[0] - 1.5) ** 2)
        other = max((3.0 - 1.0) ** 2, (near[1] - 1.0) ** 2)
        found = Critic(config, "value").loss(hidden_BTD, head, batch)
        assert float(found["value"]) == pytest.approx(weight * 0.5 * (one + other))


def test_the_clipped_loss_is_pessimistic():
    """−min(r·A, clip(r)·A): a good answer gains nothing beyond 1 + ε, a bad one loses all of it."""
    log_ratio = torch.log(torch.tensor([2.0, 2.0, 0.5, 0.5, 1.1]))
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 3.0])
    expected = [-1.2, 2.0, -0.5, 0.8, -3.3]
    assert clipped_loss(log_ratio, advantages, 0.2).tolist() == pytest.approx(expected)


def _gradient(loss, model):
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {n: g for n, g in zip(names, found, strict=True) if g is not None}


def _context(bench):
    """The bench's context; rewards are not asked."""
    return SimpleNamespace(
        seed=0, tokenizer=bench.context.tokenizer, component=lambda kind, config: None
    )


def _answers(bench):
    """A batch of answers of unequal length, and the same tensors as TRL has them."""
    generator = torch.Generator().manual_seed(3)
    lengths, prompt = (5, 3, 1, 4), 2
    examples = []
    for n in lengths:
        ids = torch.randint(2, 200, (prompt + n,), generator=generator).numpy()
        noise = torch.randn(3, n, generator=generator).numpy() * 0.3
        episode = Episode(
            prompt=ids[:prompt],
            answer=ids[prompt:],
            logprobs=noise[0] - 5,
            reference=noise[1] - 5,
            deployed=0.0,
            ended=True,
            rewards={},
            costs=(),
            texts=("", ""),
            values={},
        )
        examples.append(episode)
    advantages = torch.randn(len(lengths), generator=generator).numpy()
    return examples, advantages


def _as_trl(episodes, advantages):
    width = max(len(e.answer) for e in episodes)

    def padded(rows, fill=0.0):
        return torch.tensor(
            np.array([np.append(r, [fill] * (width - len(r))) for r in rows], np.float32)
        )

    return {
        "prompt_ids": torch.tensor(np.array([e.prompt for e in episodes])),
        "prompt_mask": torch.ones(len(episodes), 2, dtype=torch.long),
        "completion_ids": padded([e.answer for e in episodes]).long(),
        "completion_mask": padded([np.ones(len(e.answer)) for e in episodes]).long(),
        "advantages": torch.tensor(advantages),
        "old_per_token_logps": padded([e.logprobs for e in episodes]),
        "ref_per_token_logps": padded([e.reference for e in episodes]),
        "old_logps": torch.tensor([float(e.logprobs.sum()) for e in episodes]),
        "num_items_in_batch": torch.tensor(float(sum(len(e.answer) for e in episodes))),
    }


def _ours(bench, objective, model, episodes, advantages):
    examples = [
        e.example(advantages=np.full(len(e.answer), a), reference=e.reference)
        for e, a in zip(episodes, advantages, strict=True)
    ]
    batch = objective.collate(examples)
    return bench.sums(objective, model, [batch], frozen={})


def _logprobs(trainer, model, input_ids, attention_mask, keep, **_):
    """As TRL's trainers compute them."""
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1]
    logprobs = logits[:, -keep:].log_softmax(-1)
    chosen = input_ids[:, -keep:, None]
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(-1, chosen)[..., 0], entropy, None


@pytest.mark.covers("objective/ppo.clip")
@pytest.mark.parametrize("clip", [0.2, 0.05])
def test_ppos_loss_is_a_mean_over_all_tokens(bench, same, clip):
    """Loss and gradient as they are written, from logits; and the share of ratios beyond the clip."""
    model, noise = bench.model(), torch.Generator().manual_seed(0)
    episodes, owns = [], []
    for one, reward in zip(*_answers(bench), strict=True):
        n = len(one.answer)
        ids = torch.tensor([[*one.prompt, *one.answer]])
        log = model(input_ids=ids).logits[0, -n - 1 : -1].log_softmax(-1)
        owns.append(log.gather(-1, ids[0, -n:, None])[:, 0])
        before = owns[-1].detach() + 0.15 * torch.randn(n, generator=noise)
        values = {"value": np.zeros(n + 1, np.float32)}
        episodes.append(replace(one, logprobs=before.numpy(), rewards={"a": reward}, values=values))
    objective = build(PPO(rewards=[Length(name="r")], clip=clip, answer_tokens=8), _context(bench))
    examples = objective.learn(episodes).episodes
    ours = bench.sums(objective, bench.model(), [objective.collate(examples)], frozen={})
    placed = [(e.fields["advantages"], e.fields["labels"] != -100) for e in examples]
    gain = torch.tensor(np.concatenate([values[counted] for values, counted in placed]))
    ratio = (torch.cat(owns) - torch.tensor(np.concatenate([e.logprobs for e in episodes]))).exp()
    loss = -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean()
    same(ours, loss, _gradient(loss, model))
    share = ((ratio - 1).abs() > clip).float().mean().item()
    assert 0 < share < 1
    assert float(ours.means["metric/clipped"]) == pytest.approx(share)


@pytest.mark.covers("objective/rloo.clip")
@pytest.mark.parametrize("clip", [0.2, 0.05])
def test_rloo_is_trls(bench, trainer, same, clip):
    """Loss and gradient on the same tensors, to 1e-5."""
    from trl.trainer.rloo_trainer import RLOOTrainer

    episodes, advantages = _answers(bench)
    config = RLOO(rewards=[Length(name="r")], clip=clip, answer_tokens=8)
    objective = build_rloo(config, _context(bench))
    ours = _ours(bench, objective, bench.model(), episodes, advantages)
    theirs, model = trainer(epsilon_low=clip, epsilon_high=clip), bench.model()
    theirs.accelerator.reduce = lambda value, reduction: value
    theirs._get_per_token_logps_and_entropies = lambda *a, **k: _logprobs(theirs, *a, **k)
    loss = RLOOTrainer._compute_loss(theirs, model, _as_trl(episodes, advantages))
    same(ours, loss, _gradient(loss, model))


@pytest.mark.covers("objective/grpo.average", "objective/grpo.clip")
@pytest.mark.parametrize(
    ("average", "loss_type"), [("answer", "grpo"), ("token", "dapo"), ("longest", "dr_grpo")]
)
@pytest.mark.parametrize(("kl", "clip"), [(0.0, 0.2), (0.3, 0.1)])
def test_grpo_is_trls(bench, trainer, same, average, loss_type, kl, clip):
    """Loss and gradient on the same tensors, to 1e-5, by each way of averaging."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    episodes, advantages = _answers(bench)
    fields = {"average": average, "kl": kl, "clip": clip, "answer_tokens": 8}
    objective = build_grpo(GRPO(rewards=[Length(name="r")], **fields), _context(bench))
    ours = _ours(bench, objective, bench.model(), episodes, advantages)
    theirs = trainer(
        epsilon_low=clip,
        epsilon_high=clip,
        beta=kl,
        loss_type=loss_type,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=8,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
    )
    theirs.accelerator.num_processes = 1
    theirs.accelerator.reduce = lambda value, reduction: value
    theirs._get_per_token_logps_and_entropies = lambda *a, **k: _logprobs(theirs, *a, **k)
    model = bench.model()
    loss = GRPOTrainer._compute_loss(theirs, model, _as_trl(episodes, advantages))
    same(ours, loss, _gradient(loss, model))
