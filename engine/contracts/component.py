"""Declarations of components and architectures by plugins: kinds, schemas and names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Schema = Literal["text", "chat", "completion", "preference", "labelled", "stepwise", "prompt"]
"""What a record holds: which fields it has beside those of all records."""
Kind = Literal[
    "data-source",
    "processor",
    "corpus-step",
    "executor",
    "tokenizer",
    "model",
    "adapter",
    "strategy",
    "optimizer",
    "schedule",
    "objective",
    "penalty",
    "reward",
    "evaluator",
    "callback",
    "inference",
]


Precision = Literal["fp32", "bf16", "fp16"]
"""Precision of the matrix products in training."""


@dataclass(frozen=True, slots=True)
class Component:
    """A plugin's declaration of a component, by names only, so that listing imports nothing.

    ``type``: name in the spec; ``config``: import path of the configuration class
    (``"engine_lm.config:Llama"``); ``factory``: import path of its ``build(config, context)``;
    ``summary``: one line for listings; ``extra``: optional dependency of the plugin's distribution that
    the component needs; ``default``: used if a spec names no component of the kind.
    """

    type: str
    config: str
    factory: str
    summary: str
    extra: str | None = None
    default: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """A plugin's declaration of a model class that transformers does not have, by names only.

    ``model_type``: its name in config.json; ``config``: import path of its ``PreTrainedConfig``, which
    has this ``model_type``; ``model``: import path of its causal language model, a ``PreTrainedModel``
    (``"engine_hybrid.architecture:HybridForCausalLM"``); ``backbone`` and ``scalar``: import paths of
    the model without a head and with a scalar head ``score``, if there are such. Reward models need the
    latter, and transformers' ``GenericForSequenceClassification``, of which it can be made, the former.
    """

    model_type: str
    config: str
    model: str
    backbone: str | None = None
    scalar: str | None = None
