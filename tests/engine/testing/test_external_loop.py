"""The kit finds external loops that break their contract."""

from __future__ import annotations

import pytest

TRAIN = """class AnswersObjective(ExternalLoop):
    def train(self, job):
        import torch

        optimizer = job.optimizer(list(job.model.named_parameters()))
        for step in range(1, 5):
            batch = self.batch(job.examples)
            logits = job.model(**batch.inputs).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), batch.targets["labels"].flatten().long()
            )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            job.log(Progress(step, 9 * step, step, 0.0, job.budget), {"loss": loss.item()})
"""
AS_TRAINER = [
    ("class AnswersObjective(Objective):\n", TRAIN + "\n"),
    ("import Batch, Example, Objective", "import Batch, Example, ExternalLoop, Progress"),
    (
        'takes: ClassVar = frozenset({"completion"})',
        'takes: ClassVar = frozenset({"completion"})\n    external_loop: ClassVar = True',
    ),
    (
        "    def collate(self, examples):\n        labels = padded(examples, \"labels\", IGNORE)\n"
        "        return Batch(\n            inputs={name: padded(examples, name, 0)",
        "    def batch(self, examples):\n        labels = padded(examples, \"labels\", IGNORE)\n"
        "        return Batch(\n            inputs={name: padded(examples, name, 0)",
    ),
]  # fmt: skip
STEPS = "for step in range(1, 5):"
LOG = 'job.log(Progress(step, 9 * step, step, 0.0, job.budget), {"loss": loss.item()})'


@pytest.mark.parametrize(
    ("contract", "edit"),
    [
        ("it calls job.log for its steps", (LOG, "pass")),
        ("tokens as input_ids", ('"input_ids": tokens[:-1]', '"input_ids": tokens')),
        ("steps and tokens go up", (LOG, LOG.replace("9 * step", "-step"))),
        ("it ends after 2 steps, before 4 steps", (STEPS, "for step in range(1, 3):")),
        ("the figure loss is nan", (LOG, LOG.replace("loss.item()", 'float("nan")'))),
        ("has its own 'step'", (LOG, LOG.replace('"loss"', '"step"'))),
        (
            "weights stay finite",
            (LOG, f"{LOG}\n        job.model.lm_head.weight.data.fill_(float('nan'))"),
        ),
        ("job.model itself is trained", ("optimizer.step()", "pass")),
        (
            "'final' is the stage's own model",
            (
                "    def train(self, job):\n",
                "    def others(self):\n"
                "        return {'final': None}\n\n    def train(self, job):\n",
            ),
        ),
    ],
)
def test_trainer(refuses, contract, edit):
    """It trains, tells and ends."""
    refuses("objective", {"type": "answers"}, contract, *AS_TRAINER, edit)


def test_a_trainer_is_sound(spoil):
    """The same without a mistake."""
    from engine.testing import check_component

    spoil(*AS_TRAINER)
    check_component("objective", {"type": "answers"})
