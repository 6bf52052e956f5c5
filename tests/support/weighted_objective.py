"""A plugin with an objective whose examples have a field of their own, the weight of each token."""

from __future__ import annotations

ENCODE_WINDOW = """
    def encode_window(self, window, tokenizer):
        return self._weighted(window.example())
"""
FAULT = """
    def prepared_fault(self):
        return "its weights come from records"
"""
_CONFIG = """
from engine import ObjectiveConfig


class Weighted(ObjectiveConfig):
    "Next tokens, each of which counts twice."
"""
_OBJECTIVE = """
import numpy as np
from dataclasses import replace
from engine import Example
from engine.modeling import padded, token_logprobs
from engine_lm.next_token import NextTokenObjective


class WeightedObjective(NextTokenObjective):
    def encode(self, record, tokenizer, length):
        return map(self._weighted, super().encode(record, tokenizer, length))

    def _weighted(self, example):
        weights = np.where(example.fields["labels"] < 0, 0, 2)
        return replace(example, fields={**example.fields, "weights": weights})

    def collate(self, examples):
        batch = super().collate(examples)
        weights = padded(examples, "weights", 0)
        counts = {"loss": int(weights.sum())}
        return replace(batch, targets={**batch.targets, "weights": weights}, counts=counts)

    def loss(self, hidden_BTD, head, batch):
        logprobs_BT = token_logprobs(hidden_BTD, head, batch.targets["labels"])
        return {"loss": -(batch.targets["weights"] * logprobs_BT).sum()}
"""
_BUILD = """

def build(config, context):
    return WeightedObjective()
"""


def weighted(objective: str = ENCODE_WINDOW, config: str = "") -> dict[str, str]:
    """The plugin's files, with more methods of its two classes."""
    return {
        "engine_weighted/__init__.py": "",
        "engine_weighted/plugin.py": """
from engine import Component, hookimpl


@hookimpl
def engine_objectives():
    config, build = "engine_weighted.config:Weighted", "engine_weighted.objective:build"
    return [Component("weighted", config, build, "Next tokens with weights.")]
""",
        "engine_weighted/config.py": _CONFIG + config,
        "engine_weighted/objective.py": _OBJECTIVE + objective + _BUILD,
    }
