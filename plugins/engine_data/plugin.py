"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_data_sources() -> Sequence[Component]:
    """Where records come from."""
    return [
        Component(
            "python-library",
            "engine_data.config:PythonLibrary",
            "engine_data.python_library:build",
            "The standard library of this Python: sources, docstrings, topics.",
        ),
        Component(
            "python-questions",
            "engine_data.config:PythonQuestions",
            "engine_data.python_questions:build",
            "Questions about that library, with right and wrong answers.",
        ),
        Component(
            "arithmetic",
            "engine_data.config:Arithmetic",
            "engine_data.arithmetic:build",
            "Questions of arithmetic, with their answers to check by.",
        ),
        Component(
            "files",
            "engine_data.config:Files",
            "engine_data.files:build",
            "Local files: text, JSON, JSON lines, CSV, TSV, Parquet, also compressed.",
        ),
        Component(
            "hugging-face",
            "engine_data.config:HuggingFace",
            "engine_data.hugging_face:build",
            "A data set of the hub or of a folder, streamed.",
            extra="data",
        ),
    ]


@hookimpl
def engine_processors() -> Sequence[Component]:
    """What is kept."""
    return [
        Component(
            "exact-dedup",
            "engine_data.config:ExactDedup",
            "engine_data.processors:build_exact_dedup",
            "Drops records whose text came before.",
        ),
        Component(
            "length",
            "engine_data.config:Length",
            "engine_data.processors:build_length",
            "Drops records that are too short or too long.",
        ),
    ]


@hookimpl
def engine_tokenizers() -> Sequence[Component]:
    """How text becomes tokens."""
    return [
        Component(
            "bpe",
            "engine_data.config:BPE",
            "engine_data.tokenizers:build_bpe",
            "Byte-level byte-pair encoding, trained on the corpus.",
            default=True,
        ),
        Component(
            "pretrained",
            "engine_data.config:PretrainedTokenizer",
            "engine_data.tokenizers:build_pretrained",
            "A tokenizer from a folder or a hub, at a pinned revision.",
        ),
        Component(
            "bytes",
            "engine_data.config:Bytes",
            "engine_data.tokenizers:build_bytes",
            "One token a byte.",
        ),
    ]
