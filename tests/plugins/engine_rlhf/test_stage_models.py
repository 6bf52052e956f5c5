"""Models beside the one that learns must read its ids."""

from __future__ import annotations

import pytest
from support.internals import Artifact

from engine import RunError
from engine.testing import StandAloneContext

ONLINE = {"rewards": [{"type": "length"}], "answer_tokens": 6}
OTHER = "has another tokenizer than the model that learns"


@pytest.fixture
def context(bench, tmp_path):
    """In which ``strange`` is a model with one token more."""
    words = StandAloneContext().tokenizer()
    words.add_tokens(["<strange>"])
    model = bench.model(seed=1)
    Artifact.save(tmp_path / "strange", model, model.state_dict().items(), words)
    return StandAloneContext(folders={"strange": tmp_path / "strange"})


@pytest.mark.parametrize(
    "objective",
    [
        {"type": "dpo"},
        {"type": "kto"},
        *({"type": kind, **ONLINE, "kl": 0.1} for kind in ("ppo", "rloo", "grpo")),
    ],
    ids=lambda objective: objective["type"],
)
def test_a_reference_with_another_tokenizer_is_refused(bench, context, objective):
    """It would tell the log-probabilities of other tokens, without a word."""
    built = context.build("objective", {**objective, "reference": "strange"})
    with pytest.raises(RunError, match=f"reference 'strange' {OTHER}"):
        built.freeze(bench.model())


def test_a_critic_with_another_tokenizer_is_refused(bench, context):
    """As the reference is."""
    built = context.build("objective", {"type": "ppo", **ONLINE, "value": "strange"})
    with pytest.raises(RunError, match=f"value 'strange' {OTHER}"):
        built.companions(bench.model())
