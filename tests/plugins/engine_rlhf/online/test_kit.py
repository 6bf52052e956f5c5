"""The kit finds online objectives that break their contract."""

from __future__ import annotations

import pytest
from engine_rlhf.testing import check_online

SETTINGS = {"type": "reinforce", "reward": {"type": "brevity", "free": 2}}
COUNTS = "passes, mini_batches, episodes_per_prompt = 1, 1, 1"
EPISODES = "return list(zip(ids, tokens, asked, answers, rewards, strict=True))"
EXAMPLE = "answer_example(ids, tokens, advantages=[r - average] * len(tokens))"
EXAMPLES = "for ids, tokens, _, _, r in episodes"
FIGURES = 'figures={"reward": mean, "baseline": average}'
TABLE = '"reward": r} for _, _, p, a, r in episodes]'
SEED = "seed_of(self._seed, number, place)"
STATE = 'return {"average": self._average}'
WITH = f"Example(len(ids) + len(tokens), {{**{EXAMPLE}.fields"
NUMPY = '__import__("numpy")'
LOSS = '-(batch.targets["advantages"] * logprobs_BT).sum()'


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
            "episodes can be pickled, but Can't pickle",
            EPISODES,
            "return [(lambda: None,) for _ in ids]",
        ),
        ("learn returns a Round", "return Round(", "return (lambda *parts, **named: parts)("),
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
        ("fields, which are numpy arrays _N", EXAMPLE, f'{WITH}, "advantages": 0.5}})'),
        ("fields, which are numpy arrays _N", EXAMPLE, f'{WITH}, "input_ids": [1, 2]}})'),
        (
            "all examples have the same fields",
            EXAMPLE,
            f'{WITH}, **({{"more": tokens}} if r > average else {{}})}})',
        ),
        ("a step's event has its own 'loss'", FIGURES, 'figures={"loss": mean}'),
        ("the figure reward is nan", FIGURES, 'figures={"reward": float("nan")}'),
        ("the figure reward is np.float32", FIGURES, f'figures={{"reward": {NUMPY}.float32(mean)}}'),
        ("JSON round trip preserves the figures of a step", FIGURES, "figures={1: mean}"),
        ("a row for every episode, or no rows", TABLE, TABLE.replace("episodes", "episodes[1:]")),
        ("JSON round trip preserves a row of the table", TABLE, TABLE.replace(": r}", ": {r}}")),
        ("the same columns, of texts and numbers", TABLE, TABLE.replace(": r}", ": None}")),
        ("the same columns, of texts and numbers", TABLE, TABLE.replace('"reward"', "a")),
        ("depend on seed, round and place alone", SEED, SEED.replace("place", "len(prompts)")),
        ("depend on seed, round and place alone", SEED, f"int({NUMPY}.random.randint(1 << 30))"),
        ("JSON round trip preserves state()", STATE, "return {1: self._average}"),
        ("state() returns what load() was given", 'self._average = state["average"]', "pass"),
        ("after a resume, the next round is the same", STATE, 'return {"average": 0}'),
        ("the loss has a gradient", LOSS, f"{LOSS} * 0"),
        ("loss over micro-batches adds up to", LOSS, LOSS.replace("sum", "mean")),
        ("loss is nan", LOSS, f"{LOSS} * float('nan')"),
        (
            "the frozen 'reference' shares no parameter",
            "    def learn(self",
            '    def freeze(self, model):\n        return {"reference": model}\n\n    def learn(self',
        ),
        (
            "the weights of 'twin' are not shared with another model",
            "    def learn(self",
            "    def companions(self, model):\n        from engine_rlhf.online import Companion\n\n"
            '        return {"twin": Companion(model, self)}\n\n    def learn(self',
        ),
    ],
)  # fmt: skip
def test_online_objective(spoil, contract, old, new):
    """Rounds that can be shared, kept, read and learned from."""
    spoil((old, new))
    with pytest.raises(AssertionError) as told:
        check_online(SETTINGS)
    assert contract in str(told.value)
