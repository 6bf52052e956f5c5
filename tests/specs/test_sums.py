"""The ready spec of sums: whole at a tiny size, and what the right answers must bring at its own."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from engine_data.sources.arithmetic import ArithmeticSource
from engine_evals.rewards.columns import last_number
from support.sources import records_of

from engine.data.corpus.documents import is_held_out
from engine.spec.loading import load_spec
from engine.testing import run_spec

SPEC = Path(__file__).parents[2] / "specs" / "sums.yaml"
TINY = {
    "corpus.prepare.sources": "[{type: arithmetic, records: text, digits: 1}]",
    "base.train.model": "{type: llama, hidden_size: 32, layers: 1, heads: 2, context: 64}",
    "base.train.batch.tokens": 256,
    "base.train.budget": "2 steps",
    "pupil.train.data.digits": 1,
    "pupil.train.batch.tokens": 256,
    "pupil.train.budget": "2 steps",
    "solver.train.data.digits": 1,
    "solver.train.objective.answers": 2,
    "solver.train.batch.examples": 4,
    "solver.train.budget": "3 steps",
}
SHUFFLED = {
    "engine_shuffled/__init__.py": "",
    "engine_shuffled/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_rewards():
    config, build = "engine_evals.config:Answer", "engine_shuffled.reward:build"
    return [Component("shuffled-answer", config, build, "Right where another sum's answer is.")]
""",
    "engine_shuffled/reward.py": """
import random

from engine_evals.rewards.answer import AnswerReward

class Shuffled(AnswerReward):
    def score(self, prompts, completions, rows):
        asked = list(dict(zip(prompts, rows)).items())
        others = [row for _, row in asked]
        random.Random(len(prompts)).shuffle(others)
        given = dict(zip((prompt for prompt, _ in asked), others))
        return super().score(prompts, completions, [given[prompt] for prompt in prompts])

def build(config, context):
    return Shuffled(config)
""",
}
"""A plugin whose reward gives every prompt the row of one of its round, drawn without repetition."""


def _scores(run):
    return {(e["model"], e["metric"]): e for e in run.events if e["event"] == "score"}


def test_the_spec_runs(tmp_path):
    """Each answer is rewarded by its own row, no stage reads a sum that is held out, and the gain
    is that of the same unseen sums."""
    run = run_spec(SPEC, tmp_path, *(f"stages.{k}={v}" for k, v in TINY.items()))
    spec = load_spec(SPEC, overrides=[f"stages.{k}={v}" for k, v in TINY.items()]).spec
    train = spec.stages["solver"].train
    records = records_of(ArithmeticSource(train.data))
    unseen = {r.prompt for r in records if is_held_out(r, train.holdout, spec.seed)}
    files = sorted((run.folder / "solver" / "rollouts").iterdir())
    rows = [json.loads(line) for f in files for line in f.read_text("utf-8").splitlines()]
    assert len(rows) == 24
    for row in rows:
        first, second = row["prompt"].rstrip("=").split("+")
        assert row["reward/answer"] == (last_number(row["answer"]) == str(int(first) + int(second)))
        assert row["prompt"] not in unseen
    held = (run.folder / "corpus" / "holdout.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["text"].partition("=")[0] + "=" for line in held} == unseen
    scores = _scores(run)
    gain = scores["solver", "gain_over_pupil"]
    assert gain["n"] == scores["pupil", "reward"]["n"] == len(unseen) > 0
    difference = scores["solver", "reward"]["value"] - scores["pupil", "reward"]["value"]
    assert gain["value"] == pytest.approx(difference)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_right_answers_teach_and_shuffled_ones_do_not(install_here, tmp_path, seed):
    """On unseen sums the interval of the paired gain is above zero, and is not where every sum is given
    the answer of another."""
    begun = time.process_time()
    right = run_spec(SPEC, tmp_path / "right", f"seed={seed}")
    took = time.process_time() - begun
    for stage in ("corpus", "base", "pupil"):
        shutil.copytree(right.folder / stage, tmp_path / "shuffled" / "sums" / stage)
    install_here(SHUFFLED)
    rewards = "stages.solver.train.objective.rewards=[{type: shuffled-answer}]"
    shuffled = run_spec(SPEC, tmp_path / "shuffled", f"seed={seed}", "plugins=[shuffled]", rewards)
    print(f"\nseed {seed}: {took:.0f} s of CPU time")
    lowest = {}
    for name, run in (("right", right), ("shuffled", shuffled)):
        scores = _scores(run)
        gain, before = scores["solver", "gain_over_pupil"], scores["pupil", "reward"]
        half = 1.96 * gain["stderr"]
        lowest[name] = gain["value"] - half
        print(f"  {name}: {before['value']:.3f}, gain {gain['value']:+.3f} ± {half:.3f}")
    assert lowest["right"] > 0
    assert lowest["shuffled"] <= 0
