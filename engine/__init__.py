"""engine: a plugin-based training engine for large language models.

The names below are the public interface; plugins import nothing else of the engine. They are
resolved on first use, so that ``import engine`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "activations": ("Scores",),
    "component": (
        "Adapter", "Artifact", "BaseCallback", "Batch", "Callback", "Component",
        "Context", "DataSource", "Example", "Objective", "Optimizers", "Processor", "Progress",
        "Reward", "RollBack", "Schedule", "Schema", "Setup", "Step", "Stop", "Strategy",
        "TokenizerTrainer",
    ),
    "config": (
        "Amount", "Config", "Count", "DataSourceConfig", "EvaluatorConfig", "Interval",
        "ModelConfig", "Number", "ObjectiveConfig", "Of", "OptimizerConfig", "ParameterGroup",
        "RewardConfig", "Share", "StageRef", "StrategyConfig", "TokenizerConfig", "VariableName",
        "runtime", "units",
    ),
    "conversation": (
        "conversation_pieces", "end_of_turn", "example_tokens", "prompt_tokens",
    ),
    "rendering": ("Piece", "RecordError"),
    "encoding": ("continuation", "document_tokens"),
    "deadline": ("time_limit",),
    "figures": ("ratio",),
    "files": ("read_regular",),
    "forecast": ("Candidate",),
    "data.packing": ("IGNORE", "join", "pack"),
    "data.records": (
        "Bad", "Chat", "Completion", "Labelled", "Messages", "Preference", "Prompt", "Record", "Said",
        "Stepwise", "Text", "Tools", "record_from_row", "record_or_bad", "record_to_row",
    ),
    "errors": ("EngineError", "FieldError", "PluginError", "RunError", "SpecError"),
    "hookspecs": ("hookimpl",),
    "layout": ("Beside", "Layout", "ModelShape"),
    "language_model": ("LanguageModel", "Rollout"),
    "logprobs": ("cross_entropy", "label_places", "token_logprobs"),
    "modules": (
        "ObjectiveModule", "attend", "compile_layers", "head", "hidden_states", "labelled_rows",
        "layers", "loss_terms", "mark_bounds", "padded", "place", "reads_packed", "recompute_layers",
        "with_scalar_head",
    ),
    "objective": (
        "BaseObjective", "BaseOnlineObjective", "BaseTrainer", "Companion", "Job", "Round",
    ),
    "permissions": ("Need", "host_of", "is_loopback", "network_need", "secret_need"),
    "parameters": ("average_decay", "parameter_groups"),
    "places": ("misplaced", "neighbours"),
    "pretrained": ("file_fault", "loading_fault", "pretrained_tokenizer", "tokenizer_fault"),
    "requests": (
        "Attack", "Evaluator", "Generation", "Item", "LogLikelihood", "Response", "Rolling", "Score",
        "Value", "seed_of",
    ),
    "shrunk": ("shrunk_config",),
    "console": ("Terminal",),
    "terminal": ("cleaned",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"engine.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
