"""Models are what their fields say, and keep packed documents apart."""

from __future__ import annotations

import pytest
import torch
from engine_lm.config import CausalLM, Llama
from engine_lm.models import build_causal_lm, build_llama
from engine_lm.next_token import build as build_next_token
from engine_lm.training_config import NextToken

from engine import Batch, SpecError
from engine.modeling import ObjectiveModule, head, hidden_states

SMALL = {"hidden_size": 32, "layers": 2, "heads": 4, "context": 64}


def _llama(given, **fields):
    torch.manual_seed(0)
    return build_llama(Llama(**{**SMALL, **fields}), given)


def _packed(*lengths: int) -> torch.Tensor:
    return torch.cat([torch.arange(n) for n in lengths])[None]


def _logits(model, input_ids, position_ids):
    hidden = hidden_states(model, input_ids=input_ids, position_ids=position_ids)
    return head(model)(hidden).detach()


FIELDS = {
    "hidden_size": (16, lambda m: m.model.embed_tokens.embedding_dim),
    "layers": (3, lambda m: len(m.model.layers)),
    "heads": (8, lambda m: m.config.num_attention_heads),
    "kv_heads": (2, lambda m: m.model.layers[0].self_attn.k_proj.out_features // 8),
    "intermediate_size": (48, lambda m: m.model.layers[0].mlp.up_proj.out_features),
    "context": (128, lambda m: m.config.max_position_embeddings),
    "rope_theta": (500.0, lambda m: m.config.rope_parameters["rope_theta"]),
    "norm_eps": (1e-3, lambda m: m.model.norm.variance_epsilon),
    "tie_embeddings": (False, lambda m: m.lm_head.weight is m.model.embed_tokens.weight),
}


@pytest.mark.covers(*(f"model/llama.{field}" for field in FIELDS))
@pytest.mark.parametrize("field", FIELDS)
def test_a_llama_has_the_shape_asked_for(field, context):
    """Each field changes what it names; the default is something else."""
    value, read = FIELDS[field]
    assert read(_llama(context)) != value
    assert read(_llama(context, **{field: value})) == value


@pytest.mark.covers("model/llama.init_std")
def test_initial_weights_have_the_spread_asked_for(context):
    """Of matrices; within a tenth, which is what a thousand of them give."""
    for std in (0.02, 0.1):
        layer = _llama(context, init_std=std).model.layers[0]
        assert float(layer.mlp.up_proj.weight.detach().std()) == pytest.approx(std, rel=0.1)


def test_the_rotary_base_counts(context):
    """In the logits, too, and not just in the config."""
    ids = torch.arange(20)[None]
    a, b = (_logits(_llama(context, rope_theta=t), ids, _packed(20)) for t in (1e4, 10.0))
    assert not torch.allclose(a, b)


def test_the_llama_is_transformers(context):
    """With its own attention, the same weights give the same logits; float32's rounding apart."""
    model = _llama(context, kv_heads=2)
    ids = torch.randint(0, 256, (2, 64))
    ours = _logits(model, ids, _packed(64).expand(2, -1))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        torch.testing.assert_close(ours, model(ids).logits, atol=1e-5, rtol=1e-4)


def test_the_loss_is_the_negative_log_likelihood(context, tokenizer):
    """−Σ log P(x_t | x_<t), written out in float64, of each document by itself."""
    model = _llama(context).double()
    objective = build_next_token(NextToken(), context)
    documents = [torch.randint(0, 256, (n,)) for n in (9, 17, 6)]
    ids = torch.cat(documents)[None]
    labels = torch.cat([torch.cat([d[1:], torch.tensor([-100])]) for d in documents])[None]
    inputs = {"input_ids": ids, "position_ids": _packed(9, 17, 6)}
    batch = Batch(inputs, {"labels": labels}, {"loss": 29}, 32)
    found = ObjectiveModule(model, objective)(batch)["loss"]
    expected = 0.0
    for document in documents:
        for t in range(1, len(document)):
            logits = model(document[None, :t]).logits[0, -1]
            expected -= torch.log_softmax(logits, 0)[document[t]]
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-12)


ARCHITECTURES = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gpt_neox": {"num_key_value_heads": None},
    "mistral": {"sliding_window": None},
    "qwen3": {"head_dim": 16},
    "phi3": {},
    "gemma3_text": {"head_dim": 16},
    "mixtral": {"num_local_experts": 2, "sliding_window": None},
}
COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def _any_model(name, context):
    torch.manual_seed(0)
    if name == "llama":
        return _llama(context)
    config = ARCHITECTURES[name] if name == "gpt2" else {**COMMON, **ARCHITECTURES[name]}
    return build_causal_lm(CausalLM(architecture=name, config=config), context)


@pytest.mark.covers("model/causal-lm.architecture", "model/causal-lm.config")
@pytest.mark.parametrize("name", ["llama", *ARCHITECTURES])
def test_no_document_sees_another(name, context):
    """Perturb one, and the logits of the others beside it are unchanged: exactly."""
    model = _any_model(name, context).eval()
    assert model.config.model_type == name
    assert model.config.num_hidden_layers == 2
    ids = torch.randint(1, 256, (2, 48))
    positions = _packed(11, 22, 15).expand(2, -1)
    before = _logits(model, ids, positions)
    changed = ids.clone()
    changed[:, 11:33] = (ids[:, 11:33] + 7) % 256
    after = _logits(model, changed, positions)
    assert torch.equal(before[:, :11], after[:, :11])
    assert torch.equal(before[:, 33:], after[:, 33:])
    assert not torch.equal(before[:, 11:33], after[:, 11:33])


@pytest.mark.parametrize("name", ["llama", *ARCHITECTURES])
def test_a_packed_document_is_read_as_if_alone(name, context):
    """Its positions begin at 0."""
    model = _any_model(name, context).eval()
    ids = torch.randint(1, 256, (1, 48))
    packed = _logits(model, ids, _packed(11, 22, 15))
    alone = _logits(model, ids[:, 11:33], _packed(22))
    torch.testing.assert_close(packed[:, 11:33], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("lama", {}, "no causal language model 'lama'.*llama"),
        ("t5", {}, "no causal language model 't5'"),
        ("gpt2", {"n_embd": 30, "n_head": 4, "n_layer": 1}, "divisible"),
        ("qwen3", {"hidden_size": -1}, "not a whole number above 0"),
        ("bert", {}, "is not causal"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_the_specs_mistake(name, config, message, context):
    """With transformers' own words."""
    with pytest.raises(SpecError, match=message):
        build_causal_lm(CausalLM(architecture=name, config=config), context)


def test_the_vocabulary_is_the_tokenizers(context, tokenizer):
    """Rounded up to 64; the end of a document is what the tokenizer says."""
    model = _llama(context)
    assert model.config.vocab_size == 64 * -(-len(tokenizer) // 64)
    assert model.config.eos_token_id == tokenizer.eos_token_id
