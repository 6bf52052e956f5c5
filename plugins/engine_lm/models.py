"""Builds models from fields or a transformers config, or opens them from a folder, hub or stage.

A new model's vocabulary is the tokenizer's, rounded up to 64 so that matrix products stay aligned.
"""

from __future__ import annotations

import difflib
import inspect
import re
from typing import Any

from torch import nn

from engine import Context, FieldError, SpecError
from engine_lm import attention
from engine_lm.architectures import unsuited
from engine_lm.config import CausalLM, Llama, Pretrained, StageModel
from engine_lm.opening import open_model, why
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
    """Builds a model of any transformers architecture that has a language-modelling head."""
    from transformers import AutoConfig, AutoModelForCausalLM

    for field, wrong in config.problems().items():
        raise FieldError(field, wrong)
    tokenizer = context.tokenizer()
    try:
        made = AutoConfig.for_model(
            config.architecture, **{**_from_tokenizer(tokenizer), **config.config}
        )
        if reason := unsuited(made.to_dict()):
            raise FieldError("architecture", f"'{config.architecture}' {reason}")
        _check_names(config, AutoConfig.for_model(config.architecture), made)
        _check_tokens(config, made, len(tokenizer))
        model = AutoModelForCausalLM.from_config(made)
    except SpecError:
        raise
    except Exception as error:  # an architecture may raise anything about its fields
        raise FieldError(
            _meant(config, str(error)), f"{why(error)} (architecture '{config.architecture}')"
        ) from error
    return _prepared(model)


def _check_names(config: CausalLM, usual: Any, made: Any) -> None:
    """Raises FieldError for a name that the architecture does not know, which transformers would keep
    as an attribute without effect."""
    known = [*vars(usual), *usual.attribute_map]
    for name, value in config.config.items():
        taken = value is None or name in known or name not in vars(made)
        if not taken and name not in _asked_for(made):
            near = difflib.get_close_matches(name, known, 1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            raise FieldError(
                f"config.{name}", f"unknown to architecture '{config.architecture}'{meant}"
            )


def _asked_for(made: Any) -> list[str]:
    """The optional names that a model's code looks for in its config."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    code = inspect.getmodule(MODEL_FOR_CAUSAL_LM_MAPPING[type(made)])
    return re.findall(
        r"getattr\((?:self\.)?config, ['\"](\w+)", inspect.getsource(code) if code else ""
    )


def _check_tokens(config: CausalLM, made: Any, tokens: int) -> None:
    """Raises FieldError for a vocabulary smaller than the tokenizer's, or a token id outside it."""
    if made.vocab_size < tokens:
        raise FieldError(
            "config.vocab_size",
            f"{made.vocab_size} is less than the {tokens} tokens of the tokenizer",
            hint="leave it out: it is set from the tokenizer",
        )
    for name, value in config.config.items():
        if name.endswith("_token_id") and isinstance(value, int) and value >= made.vocab_size:
            raise FieldError(
                f"config.{name}", f"token {value} is outside the vocabulary of {made.vocab_size}"
            )


def _meant(config: CausalLM, message: str) -> str:
    """The field that an error message names, or whose value it quotes."""

    def plain(text: object) -> str:
        return re.sub(r"[^a-z0-9]", "", str(text).lower())

    said = plain(message)
    for name, value in config.config.items():
        if plain(name) in said or (isinstance(value, str) and plain(value) in said):
            return f"config.{name}"
    return "config"


def build_pretrained(config: Pretrained, context: Context) -> nn.Module:
    """Opens a model from a folder or a hub, from safetensors only and without its own code, and adds
    the adapter if there is one."""
    model = open_model(config.path, config.revision)
    tokens = len(context.tokenizer())
    have = model.get_input_embeddings().num_embeddings
    if tokens > have:
        if not config.resize_embeddings:
            raise SpecError(
                f"model '{config.path}' has {have} embeddings, its tokenizer {tokens} tokens",
                hint="set resize_embeddings: true",
            )
        model.resize_token_embeddings(round_up(tokens))
    return _adapted(_prepared(model), config, context)


def build_stage(config: StageModel, context: Context) -> nn.Module:
    """Opens the model of another stage, and adds the adapter if there is one."""
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


def _from_tokenizer(tokenizer: Any) -> dict[str, Any]:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return {
        "vocab_size": round_up(len(tokenizer)),
        "bos_token_id": eos if bos is None else bos,
        "eos_token_id": eos,
        "pad_token_id": tokenizer.pad_token_id,
    }
