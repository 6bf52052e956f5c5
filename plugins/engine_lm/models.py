"""Models: built from fields or a transformers config, opened from a folder, or taken from a stage.

A new model's vocabulary is the tokenizer's, rounded up to 64 so that matrix products stay aligned.
"""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from engine import Context, RunError, SpecError
from engine_lm import attention
from engine_lm.config import CausalLM, Llama, Pretrained, StageModel
from engine_lm.shapes import round_up


def build_llama(config: Llama, context: Context) -> nn.Module:
    """transformers' LlamaForCausalLM."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width = config.intermediate_size or round_up(config.hidden_size * 8 // 3)
    return _prepared(
        LlamaForCausalLM(
            LlamaConfig(
                hidden_size=config.hidden_size,
                intermediate_size=width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads or config.heads,
                max_position_embeddings=config.context,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                tie_word_embeddings=config.tie_embeddings,
                rms_norm_eps=config.norm_eps,
                initializer_range=config.init_std,
                **_from_tokenizer(context.tokenizer()),
            )
        )
    )


def build_causal_lm(config: CausalLM, context: Context) -> nn.Module:
    """Any architecture of transformers with a language-modelling head."""
    from transformers import AutoConfig, AutoModelForCausalLM

    _check_architecture(config.architecture, "causal-lm")
    try:
        made = AutoConfig.for_model(
            config.architecture, **{**_from_tokenizer(context.tokenizer()), **config.config}
        )
        model = AutoModelForCausalLM.from_config(made)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise SpecError(f"model 'causal-lm' {config.architecture}: {error}") from error
    return _prepared(model)


def build_pretrained(config: Pretrained, context: Context) -> nn.Module:
    """A model from a folder or a hub, from safetensors only, without code of its own; perhaps with an
    adapter."""
    model = _open(config.path, config.revision)
    tokens = len(context.tokenizer())
    have = model.get_input_embeddings().num_embeddings
    if tokens > have:
        if not config.resize_embeddings:
            raise SpecError(
                f"model '{config.path}' has {have} embeddings, its tokenizer {tokens} tokens",
                mend="set resize_embeddings: true",
            )
        model.resize_token_embeddings(round_up(tokens))
    return _adapted(_prepared(model), config, context)


def build_stage(config: StageModel, context: Context) -> nn.Module:
    """What another stage trained, perhaps with an adapter."""
    return _adapted(_prepared(context.artifact(config.stage).model()), config, context)


def _adapted(model: nn.Module, config: Pretrained | StageModel, context: Context) -> nn.Module:
    if config.adapter is None:
        return model
    adapted: nn.Module = context.component("adapter", config.adapter).attach(model)
    return adapted


def _prepared(model: Any) -> nn.Module:
    attention.use_in_training(model)
    trained: nn.Module = model.train()
    return trained


def _open(path: str, revision: str | None) -> Any:
    """In float32. Raises RunError for what transformers cannot open, or would fill up with noise."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # it draws over the run's own
    try:
        given = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
        _check_architecture(given.model_type, path)
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            revision=revision,
            trust_remote_code=False,
            dtype="float32",  # exact, where a file holds several types, too
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"model '{path}' cannot be opened: {why}") from error
    if found["missing_keys"]:
        missing = ", ".join(sorted(found["missing_keys"])[:3])
        raise RunError(f"model '{path}' lacks weights that its config.json asks for: {missing} …")
    return model


def _check_architecture(architecture: str, model: str) -> None:
    """Raises SpecError for one that transformers has not with a language-modelling head."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    if architecture not in KNOWN:
        near = difflib.get_close_matches(architecture, KNOWN, 3, 0.7) or ["llama", "gpt2", "qwen3"]
        raise SpecError(
            f"model '{model}': transformers has no causal language model '{architecture}'",
            mend=f"it has {', '.join(near)} and others: see AutoModelForCausalLM in its documentation",
        )


def _from_tokenizer(tokenizer: Any) -> dict[str, Any]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return {
        "vocab_size": round_up(len(tokenizer)),
        "bos_token_id": eos if bos is None else bos,
        "eos_token_id": eos,
        "pad_token_id": tokenizer.pad_token_id,
    }
