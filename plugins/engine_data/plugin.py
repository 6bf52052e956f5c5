"""The components that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_data_sources() -> Sequence[Component]:
    """Sources of records."""
    return [
        Component(
            "python-library",
            "engine_data.config:PythonLibrary",
            "engine_data.sources.python_library:build",
            "The standard library of this Python, or installed packages, as text.",
        ),
        Component(
            "python-questions",
            "engine_data.config:PythonQuestions",
            "engine_data.sources.python_questions:build",
            "Questions about Python's standard library, with right and wrong answers.",
        ),
        Component(
            "arithmetic",
            "engine_data.config:Arithmetic",
            "engine_data.sources.arithmetic:build",
            "Arithmetic questions with their answers.",
        ),
        Component(
            "files",
            "engine_data.config:Files",
            "engine_data.sources.files:build",
            "Local files: text, JSON, JSON lines, CSV, TSV, Parquet, also compressed.",
        ),
        Component(
            "hugging-face",
            "engine_data.config:HuggingFace",
            "engine_data.sources.hugging_face:build",
            "A data set from the Hugging Face hub or a folder, streamed.",
            extra="data",
        ),
    ]


@hookimpl
def engine_processors() -> Sequence[Component]:
    """Processors, which filter documents."""
    return [
        Component(
            "length",
            "engine_data.config:Length",
            "engine_data.processors:build_length",
            "Drops documents that are too short or too long.",
        ),
    ]


@hookimpl
def engine_corpus_steps() -> Sequence[Component]:
    """Steps that see a whole corpus."""
    return [
        Component(
            "exact-dedup",
            "engine_data.config:ExactDedup",
            "engine_data.exact_dedup:build",
            "Drops documents whose text equals that of one that stays.",
        ),
    ]


@hookimpl
def engine_executors() -> Sequence[Component]:
    """Where a corpus is prepared."""
    return [
        Component(
            "local",
            "engine_data.config:Local",
            "engine_data.executors.local:build",
            "Worker processes of this machine.",
            default=True,
        ),
    ]


@hookimpl
def engine_tokenizers() -> Sequence[Component]:
    """Tokenizers."""
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
            "A tokenizer from a folder, or from a hub at a pinned revision.",
        ),
        Component(
            "bytes",
            "engine_data.config:Bytes",
            "engine_data.tokenizers:build_bytes",
            "One token per byte.",
        ),
    ]
