"""The kit finds online objectives and trainers that break their contract."""

from __future__ import annotations

import pytest

SETTINGS = {"type": "reinforce", "reward": {"type": "brevity", "free": 2}}
COUNTS = "passes, mini_batches, episodes_per_prompt = 1, 1, 1"
EPISODES = "return list(zip(ids, tokens, asked, answers, rewards, strict=True))"
EXAMPLES = "for ids, tokens, _, _, r in episodes],"
FIGURES = 'figures={"reward": mean, "baseline": average}'
TABLE = '"reward": r} for _, _, p, a, r in episodes]'
SEED = "self._mixed(number, place)"
STATE = 'return {"average": self._average}'
LOSS = '-(batch.targets["advantages"] * logprobs_BT).sum()'
ADVANTAGES = '"advantages": np.full(len(whole), advantage, np.float32),'


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("passes is 1 or more, not 0", COUNTS, COUNTS.replace("= 1", "= 0")),
        ("mini_batches is 1 or more, not None", COUNTS, "passes, episodes_per_prompt = 1, 1"),
        (
            "records give no example of 24 tokens",
            "if len(ids) + self._longest <= length",
            "if len(ids) > length",
        ),
        ("its tokens as input_ids", "yield Example(len(ids), ", "yield Example(9, "),
        ("collect gives 1 episodes for each of 4 prompts, not 3", EPISODES, f"{EPISODES}[1:]"),
        (
            "episodes go to all ranks, but Can't pickle",
            EPISODES,
            "return [(lambda: None,) for _ in ids]",
        ),
        ("is no Round", "return Round(", "return (lambda *parts, **named: parts)("),
        (
            "learn gives an example for each of 4 episodes, not 3",
            EXAMPLES,
            EXAMPLES.replace("episodes", "episodes[1:]"),
        ),
        (
            "prompt and answer have 1 to 24 tokens together, not",
            'Generation("", self._longest,',
            'Generation("", 3 * self._longest,',
        ),
        ("fields are arrays _N", ADVANTAGES, '"advantages": advantage,'),
        ("fields are arrays _N", '"input_ids": whole,', '"input_ids": whole.tolist(),'),
        (
            "fields are arrays _N, the same of all",
            ADVANTAGES,
            f'**({{{ADVANTAGES}}} if advantage > 0 else {{}}),',
        ),
        ("a step's event has its own 'loss'", FIGURES, 'figures={"loss": mean}'),
        ("the figure reward is nan", FIGURES, 'figures={"reward": float("nan")}'),
        ("the figure reward is np.float32", FIGURES, 'figures={"reward": np.float32(mean)}'),
        ("JSON brings back the figures of a step", FIGURES, "figures={1: mean}"),
        ("a row for every episode, or none", TABLE, TABLE.replace("episodes", "episodes[1:]")),
        ("JSON brings back a row of the table", TABLE, TABLE.replace(": r}", ": {r}}")),
        ("texts and numbers in the same columns", TABLE, TABLE.replace(": r}", ": None}")),
        ("texts and numbers in the same columns", TABLE, TABLE.replace('"reward"', "a")),
        ("depend on seed, round and place alone", SEED, "self._mixed(number, len(prompts))"),
        ("depend on seed, round and place alone", SEED, "int(np.random.randint(1 << 30))"),
        ("JSON brings back state()", STATE, "return {1: self._average}"),
        ("what was loaded is the state", 'self._average = state["average"]', "pass"),
        ("resumed, the next round is what it is without", STATE, 'return {"average": 0}'),
        ("the loss has a gradient", LOSS, f"{LOSS} * 0"),
        ("loss over micro-batches adds up to", LOSS, LOSS.replace("sum", "mean")),
        ("loss is nan", LOSS, f"{LOSS} * float('nan')"),
        (
            "what learns is no part of the frozen 'reference'",
            "    def learn(self",
            '    def freeze(self, model):\n        return {"reference": model}\n\n    def learn(self',
        ),
        (
            "what 'twin' learns is no part of another model",
            "    def learn(self",
            "    def companions(self, model):\n        from engine import Companion\n\n"
            '        return {"twin": Companion(lambda: model, self)}\n\n    def learn(self',
        ),
    ],
)  # fmt: skip
def test_online_objective(refuses, contract, old, new):
    """Rounds that can be shared, kept, read and learned from."""
    refuses("objective", SETTINGS, contract, (old, new))


TRAIN = """class AnswersObjective(BaseTrainer):
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
    ("class AnswersObjective(BaseObjective):\n", TRAIN + "\n"),
    ("IGNORE, BaseObjective, Batch,", "IGNORE, BaseTrainer, Batch, Progress,"),
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
        ("log is told of its steps", (LOG, "pass")),
        ("tokens as input_ids", ('"input_ids": tokens[:-1]', '"input_ids": tokens')),
        ("steps and tokens go up", (LOG, LOG.replace("9 * step", "-step"))),
        ("after 2 steps it is not done", (STEPS, "for step in range(1, 3):")),
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
