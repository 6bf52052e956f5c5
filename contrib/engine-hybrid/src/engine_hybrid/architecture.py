"""The hybrid as transformers knows it. Attention, feed-forward blocks and norms are Llama's.

Shapes: B rows, T tokens, D width, H heads, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, silu
from transformers import DynamicCache, GenerationMixin, LlamaConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import (
    GenericForSequenceClassification,
    GradientCheckpointingLayer,
)
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)

from engine_hybrid.config import CONVOLVED
from engine_hybrid.linear_attention import convolution, linear_attention

_SLOWNESS = 16
"""A decay is sigmoid(x)^(1/16) (Yang et al. 2024): near 1 at first, so that a state lasts for some
twenty tokens."""


class HybridConfig(LlamaConfig):
    """Llama's fields, and which layers have full attention: every ``full_every``-th."""

    model_type = "linear_hybrid"
    base_model_tp_plan = None
    base_model_pp_plan = None

    full_every: int = 4
    layer_types: list[str] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.layer_types is None:
            self.layer_types = [
                "linear_attention" if layer % self.full_every else "full_attention"
                for layer in range(1, self.num_hidden_layers + 1)
            ]
        super().__post_init__(**kwargs)


class LinearMixer(nn.Module):
    """Gated linear attention after a short convolution; each head's output is normed and gated."""

    def __init__(self, config: HybridConfig, layer: int) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.layer, self.heads = layer, heads
        self.qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.conv_weight = nn.Parameter(torch.eye(CONVOLVED)[-1].repeat(3 * width, 1))
        self.decay_proj = nn.Linear(width, heads)
        self.gate_proj = nn.Linear(width, width, bias=False)
        self.norm = LlamaRMSNorm(width // heads, config.rms_norm_eps)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, hidden_BTD: Tensor, position_BT: Tensor, past: Any) -> Tensor:
        """``_BTD``; reads and writes the layer's state in the cache ``past``, if there is one."""
        inputs_BDT, state = self.qkv_proj(hidden_BTD).mT, None
        if past is not None:
            state = past.get_recurrent_state(self.layer)
            inputs_BDT = past.update_conv_state(inputs_BDT, self.layer, conv_kernel_size=CONVOLVED)
        mixed_BTD = silu(convolution(inputs_BDT, self.conv_weight, position_BT)).mT
        # States add up hundreds of products: they are kept in float32 at least.
        wide = torch.promote_types(mixed_BTD.dtype, torch.float32)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2).to(wide)
            for part in mixed_BTD.chunk(3, -1)
        )
        decay_BHT = (logsigmoid(self.decay_proj(hidden_BTD).to(wide)) / _SLOWNESS).mT
        query = query * query.shape[-1] ** -0.5
        out, state = linear_attention(query, key, value, decay_BHT, position_BT, state)
        if past is not None:
            past.update_recurrent_state(state, self.layer)
        normed_BTHE = self.norm(out.transpose(1, 2).to(hidden_BTD.dtype))
        return self.o_proj(normed_BTHE.flatten(2) * silu(self.gate_proj(hidden_BTD)))


class HybridLayer(GradientCheckpointingLayer):
    """A layer of either kind, with a feed-forward block."""

    def __init__(self, config: HybridConfig, layer: int) -> None:
        super().__init__()
        self.full = config.layer_types[layer] == "full_attention"
        mixer = LlamaAttention if self.full else LinearMixer
        self.mixer = mixer(config, layer)
        self.mlp = LlamaMLP(config)
        self.mixer_norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp_norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        hidden_BTD: Tensor,
        position_BT: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        past: Any,
    ) -> Tensor:
        """``_BTD``."""
        normed = self.mixer_norm(hidden_BTD)
        if self.full:
            mixed, _ = self.mixer(normed, rotary, mask, past, position_ids=position_BT)
        else:
            mixed = self.mixer(normed, position_BT, past)
        hidden_BTD = hidden_BTD + mixed
        return hidden_BTD + self.mlp(self.mlp_norm(hidden_BTD))


class HybridPreTrainedModel(PreTrainedModel):
    """What the classes share."""

    config_class = HybridConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["HybridLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_attention_backend = True
    _is_stateful = True  # a state cannot be taken back by a few tokens


class HybridModel(HybridPreTrainedModel):
    """The model without a head."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = range(config.num_hidden_layers)
        self.layers = nn.ModuleList(HybridLayer(config, layer) for layer in layers)
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = LlamaRotaryEmbedding(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states; documents begin where a position is 0."""
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            position_ids = self._positions(input_ids, attention_mask, past_key_values)
        hidden = self.embed_tokens(input_ids)
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        rotary = self.rotary_emb(hidden, position_ids)
        position_BT = position_ids.expand(input_ids.shape)
        for layer in self.layers:
            hidden = layer(hidden, position_BT, rotary, mask, past_key_values)
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(hidden), past_key_values=past_key_values
        )

    @staticmethod
    def _positions(input_ids: Tensor, attention_mask: Tensor | None, past: Any) -> Tensor:
        """Places in the text, behind what the cache has; 0 for padding on the left."""
        tokens = input_ids.shape[1]
        if attention_mask is not None and attention_mask.dim() == 2:
            return (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -tokens:]
        begin = 0 if past is None else past.get_seq_length()
        return torch.arange(begin, begin + tokens, device=input_ids.device)[None]


class HybridForCausalLM(HybridPreTrainedModel, GenerationMixin):
    """The language model."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        self.model = HybridModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **inputs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the last ``logits_to_keep`` tokens (0: of all), and the loss of ``labels``."""
        read = self.model(input_ids, **inputs)
        logits = self.lm_head(read.last_hidden_state[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=read.past_key_values
        )


class HybridForSequenceClassification(GenericForSequenceClassification, HybridPreTrainedModel):
    """The model with a scalar head, for rewards and values."""
