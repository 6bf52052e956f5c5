"""Built-in penalties, beside their formulas in float64."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from engine import Batch, ForwardPass, RunError
from engine.modeling import examine, head, hidden_states, with_scalar_head
from engine.testing import StandAloneContext, tiny_model

SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip


@pytest.fixture
def z_loss():
    """The penalty of that name."""
    return StandAloneContext().build("penalty", {"type": "z-loss"})


@pytest.mark.parametrize(
    "build",
    [
        lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
        lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=0.5)),
    ],
    ids=["plain", "capped"],
)
def test_z_loss_is_that_of_the_model_s_own_logits(z_loss, build):
    """Σ log² Z over real tokens, and its gradients, to float64's rounding."""
    torch.manual_seed(0)
    model = build().double()
    examine(model, learns=True)
    ids = torch.randint(0, 64, (3, 20))
    real = torch.rand(3, 20) < 0.7
    inputs = {"input_ids": ids, "position_ids": torch.arange(20).expand(3, 20)}
    found = z_loss.output_loss(
        ForwardPass({}, hidden_states(model, **inputs), head(model), Batch({}, {}, {}, 60), real)
    )
    expected = (model(**inputs).logits.logsumexp(-1).square() * real).sum()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    weights = list(model.parameters())
    both = (torch.autograd.grad(loss, weights) for loss in (found, expected))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_z_loss_refuses_a_model_without_logits(z_loss):
    """Such as a reward model."""
    with pytest.raises(RunError, match="z-loss: a model with a scalar head has no logits"):
        z_loss.start(with_scalar_head(tiny_model(StandAloneContext()), 0))


def test_distance_to_the_start():
    """½ Σ (w − w₀)², whose gradient is w − w₀."""
    penalty = StandAloneContext().build("penalty", {"type": "distance-to-start"})
    start, weight = torch.randn(2, 4, 3, dtype=torch.float64)
    weight.requires_grad_()
    loss = penalty.parameter_loss("w", weight, penalty.keep("w", start))
    torch.testing.assert_close(loss, (weight - start).norm().square() / 2)
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], weight - start)
