"""`engine plan` counts the models beside the one that learns."""

from __future__ import annotations

import pytest
from engine_plan.forecast import forecasts
from engine_plan.machine import Machine

from engine import load_spec
from engine.modeling import with_scalar_head
from engine.testing import StandAloneContext

LENGTH = {"type": "length"}
MODEL = {"type": "stage", "stage": "reward"}
CRITIC, REFERENCE, REWARD = "critic", "reference", "reward"
CASES = [
    ({"type": "dpo"}, [REFERENCE]),
    ({"type": "rloo", "rewards": [LENGTH]}, [REFERENCE]),
    ({"type": "rloo", "rewards": [LENGTH, MODEL]}, [REFERENCE, REWARD]),
    ({"type": "grpo", "rewards": [LENGTH]}, []),
    ({"type": "ppo", "rewards": [MODEL]}, [REFERENCE, REWARD, CRITIC]),
    (
        {"type": "ppo", "rewards": [LENGTH], "kl": 0, "constraints": [{"reward": MODEL}]},
        [REWARD, CRITIC, CRITIC],
    ),
    ({"type": "trl-ppo", "reward": "reward"}, [REFERENCE, REWARD, CRITIC]),
]
"""Objectives, and what models they have beside their own."""


@pytest.fixture
def planned(stage, animals, write_spec):
    """What a stage with this objective is said to need."""

    def forecast(objective, precision):
        spec = stage({"type": "reward"}, animals)
        spec["stages"]["reward"] = spec["stages"].pop("learned")
        spec["stages"]["learned"] = {
            "train": {
                **spec["stages"]["reward"]["train"],
                "objective": objective,
                "precision": precision,
            }
        }
        spec["stages"]["learned"]["train"] |= {"clip": None} if "trl" in objective["type"] else {}
        loaded = load_spec(write_spec(spec))
        return forecasts(loaded.situation(), Machine("cpu", "", 1e12))["learned"]

    return forecast


@pytest.mark.parametrize(
    ("objective", "beside", "precision"),
    [(*case, "fp32") for case in CASES] + [(*case, "bf16") for case in CASES[:-1]],
)  # TRL's computes in float32
def test_models_beside(planned, tiny_spec, objective, beside, precision):
    """As many bytes as real models of these kinds have: what is frozen is as narrow as training, a
    reward is float32, a critic has gradients and Adam's moments, and is in checkpoints."""
    found = planned(objective, precision)
    fields = tiny_spec["stages"]["base"]["train"]["model"]
    context = StandAloneContext()
    model = context.build("model", fields)
    model.resize_token_embeddings(found.shape.vocabulary)
    whole = sum(p.numel() for p in model.parameters())
    scalar = sum(p.numel() for p in with_scalar_head(model, 0).parameters())
    width, master = (4, 0) if precision == "fp32" else (2, 4)
    learning = [whole, *[scalar] * beside.count(CRITIC)]
    memory = found.chosen.estimate.memory
    frozen = width * whole * beside.count(REFERENCE) + 4 * whole * beside.count(REWARD)
    close = {"rel": 0.01}
    assert memory.parameters == pytest.approx(width * sum(learning) + frozen, **close)
    assert memory.gradients == pytest.approx(4 * sum(learning), **close)
    assert memory.optimizer == pytest.approx((8 + master) * sum(learning), **close)
    kept = 2 + 1  # checkpoints, and one on its way
    assert found.disk == pytest.approx((4 + kept * 12) * sum(learning), **close)
