"""Configurations of models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from engine import (
    Config,
    Count,
    ModelConfig,
    ModelShape,
    Number,
    Of,
    StageRef,
    misplaced,
    runtime,
    tokenizer_fault,
)
from engine_lm import architectures, folders, shapes

if TYPE_CHECKING:
    from engine import Scores


class Llama(ModelConfig):
    """A new Llama model: RMSNorm, rotary positions, SwiGLU, no biases."""

    hidden_size: Count = Field(256, description="Width of the residual stream.")
    layers: Count = Field(6, description="Decoder layers.")
    heads: Count = Field(4, description="Attention heads; must divide hidden_size.")
    kv_heads: Count | None = Field(
        None, description="Key-value heads; by default as many as heads."
    )
    intermediate_size: Count | None = Field(
        None,
        description="Width of the feed-forward block; by default 8/3 of hidden_size, rounded up to a "
        "multiple of 64.",
    )
    context: Count = Field(512, description="Longest sequence, in tokens.")
    rope_theta: Number = Field(10_000.0, gt=0, description="Base of the rotary frequencies.")
    tie_embeddings: bool = Field(True, description="Use one matrix for embedding and output head.")
    norm_eps: Number = Field(1e-5, gt=0, description="Epsilon of RMSNorm.")
    init_std: Number = Field(0.02, gt=0, description="Standard deviation of the initial weights.")

    @model_validator(mode="after")
    def _divides(self) -> Llama:
        kv_heads = self.kv_heads or self.heads
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )
        if (self.hidden_size // self.heads) % 2:
            raise ValueError(
                f"hidden_size / heads = {self.hidden_size // self.heads} must be even "
                "for rotary positions"
            )
        if self.heads % kv_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {kv_heads}")
        return self

    def context_length(self) -> int:
        """Tokens."""
        return self.context

    def shape(self, vocabulary: int | None) -> ModelShape | None:
        """The sizes that the fields state."""
        if vocabulary is None:
            return None
        return ModelShape(
            layers=self.layers,
            hidden_size=self.hidden_size,
            heads=self.heads,
            kv_heads=self.kv_heads or self.heads,
            intermediate_size=self.intermediate_size or shapes.round_up(self.hidden_size * 8 // 3),
            vocabulary=shapes.round_up(vocabulary),
            context=self.context,
            tied=self.tie_embeddings,
        )

    def scores(self, device: str) -> Scores:
        """See :class:`engine.ModelConfig`: attention scores in :mod:`engine_lm.attention`."""
        return shapes.scores("llama", device)


_NOT_OF_A_NEW_MODEL = {
    "model_type": "set `architecture` instead",
    "quantization_config": "a model from scratch is not quantised; leave it out",
    "auto_map": "a model's code is never run; leave it out",
}


class CausalLM(ModelConfig):
    """A new model of any transformers architecture."""

    architecture: str = Field(description="model_type, e.g. 'gpt2', of transformers or a plugin.")
    config: dict[str, Any] = Field(
        {},
        description="Fields of that architecture's config; vocabulary and token ids are set from the "
        "tokenizer.",
    )

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`."""
        wrong = architectures.refused(self.architecture)
        found = {"architecture": wrong} if wrong else {}
        for name in (n for n in self.config if n in _NOT_OF_A_NEW_MODEL):
            found[f"config.{name}"] = f"does not belong here: {_NOT_OF_A_NEW_MODEL[name]}"
        for name, value in shapes.no_counts(self.config).items():
            found[f"config.{name}"] = f"{value!r} is not a whole number above 0"
        return found

    def context_length(self) -> int | None:
        """The context length in tokens, if the config states it."""
        return shapes.context(self.config)

    def shape(self, vocabulary: int | None) -> ModelShape | None:
        """The sizes in the config; None where it leaves some to the architecture's defaults."""
        return shapes.shape(self._config(vocabulary))

    def built_shape(self, vocabulary: int | None) -> ModelShape | None:
        """The sizes of the built model, defaults included."""
        from engine_lm import weightless

        return weightless.built_shape(self._config(vocabulary))

    def _config(self, vocabulary: int | None) -> dict[str, Any]:
        size = {} if vocabulary is None else {"vocab_size": shapes.round_up(vocabulary)}
        return {"model_type": self.architecture, **size, **self.config}

    def scalar_head_fault(self) -> str | None:
        """See :class:`engine.ModelConfig`."""
        return architectures.scalar_head_fault(self.architecture)

    def scores(self, device: str) -> Scores:
        """See :class:`engine.ModelConfig`: attention scores of the architecture."""
        return shapes.scores(self.architecture, device)


class Existing(ModelConfig):
    """Base of the configurations of trained models."""

    adapter: Annotated[Config, Of("adapter")] | None = Field(
        None, description="Adapter to train; the model's own weights are then frozen."
    )
    name: str | None = runtime(
        None,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Name in scores and tables of an evaluate stage; by default the stage or path.",
    )


class Pretrained(Existing):
    """A trained model from a folder or the Hugging Face hub; code that comes with it is never run."""

    path: Annotated[str, AfterValidator(os.path.expanduser)] = Field(
        description="Folder of a model, or of a LoRA whose base is a folder too; or name on the hub."
    )
    revision: str | None = Field(None, description="Commit on the hub: pinned, so results repeat.")
    resize_embeddings: bool = Field(
        True, description="Grow the embeddings when the tokenizer has more tokens."
    )

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: problems in the folder's files."""
        wrong, folder = misplaced(self.path, self.revision), Path(self.path)
        if os.path.isdir(folder):
            wrong = folders.fault(folder) or tokenizer_fault(folders.tokenizer_folder(folder))
        return {"path": wrong} if wrong else {}

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`: the folder, and that of a LoRA's base."""
        base = folders.base_of(Path(self.path)) if os.path.isdir(self.path) else None
        return dict.fromkeys((self.path, str(base or self.path)))

    def tokenizer_path(self) -> str:
        """The folder itself, or the base's folder for a LoRA without a tokenizer."""
        folder = Path(self.path)
        return str(folders.tokenizer_folder(folder)) if os.path.isdir(folder) else self.path

    def context_length(self) -> int | None:
        """The context length in tokens, from config.json."""
        return shapes.context(self._config())

    def row_length(self, batch_tokens: int | None) -> int | None:
        """The context length, limited to :attr:`longest_row` and to a batch."""
        context = self.context_length()
        return context and min(context, self.longest_row, batch_tokens or context)

    def shape(self, vocabulary: int | None) -> ModelShape | None:
        """The sizes in config.json; None for a name on the hub."""
        return shapes.shape(self._resized(vocabulary))

    def built_shape(self, vocabulary: int | None) -> ModelShape | None:
        """The sizes of the built model, defaults included; None for a name on the hub."""
        from engine_lm import weightless

        config = self._resized(vocabulary)
        return weightless.built_shape(config) if config else None

    def scores(self, device: str) -> Scores:
        """See :class:`engine.ModelConfig`: attention scores of the architecture."""
        return shapes.scores(str(self._config().get("model_type")), device)

    def model_type(self) -> str | None:
        """See :class:`engine.ModelConfig`; not known of a name on the hub."""
        return folders.model_type(Path(self.path))

    def scalar_head_fault(self) -> str | None:
        """See :class:`engine.ModelConfig`; not known of a name on the hub."""
        kind = self.model_type()
        return kind and architectures.scalar_head_fault(kind)

    def _resized(self, vocabulary: int | None) -> dict[str, Any]:
        config = self._config()
        have = config.get("vocab_size", 0)
        if self.resize_embeddings and vocabulary is not None and vocabulary > have:
            config["vocab_size"] = shapes.round_up(vocabulary)
        return config

    def _config(self) -> dict[str, Any]:
        return folders.config_of(Path(self.path)) if os.path.isdir(self.path) else {}


class StageModel(Existing):
    """The model of another train stage."""

    stage: Annotated[str, StageRef("train")] = Field(description="Name of a train stage.")
