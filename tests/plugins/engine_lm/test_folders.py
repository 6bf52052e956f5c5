"""Every folder that cannot be used is told in one line with its mend, before anything is built."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from engine_lm import architectures
from engine_lm.config import CausalLM, Llama, Pretrained
from engine_lm.models import build_causal_lm, build_llama
from engine_lm.opening import open_model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from support.internals import manifest

from engine import RunError, SpecError, load_spec
from engine.modeling import examine


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    """A tiny model with its tokenizer, as transformers saves them."""
    from types import SimpleNamespace

    folder = tmp_path_factory.mktemp("models") / "whole"
    torch.manual_seed(3)
    context = SimpleNamespace(tokenizer=lambda: tokenizer)
    model = build_llama(Llama(hidden_size=32, layers=1, heads=2, context=64), context)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(whole, tmp_path / "model")


def _config(folder, **fields):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def _quantised(method, **fields):
    return lambda f: _config(f, quantization_config={"quant_method": method, **fields})


def _pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def _sentencepiece(folder):
    _without_tokenizer(folder)
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")


def _tiktoken(folder):
    _without_tokenizer(folder)
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")


def _adapter(folder, **fields):
    given = {"peft_type": "LORA", "base_model_name_or_path": "someone/base", **fields}
    (folder / "adapter_config.json").write_text(json.dumps(given))
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()


def _written(name, content):
    return lambda f: (f / name).write_bytes(content)


def _lost_shard(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


def _gguf(folder):
    (folder / "config.json").unlink()
    (folder / "tiny.gguf").write_bytes(b"GGUF")


FOLDERS = {
    "bitsandbytes": (
        _quantised("bitsandbytes", load_in_4bit=True),
        ["quantised (bitsandbytes, 4 bits)", "LoRA", ".dequantize().save_pretrained("],
    ),
    "gptq": (_quantised("gptq", bits=4), ["gptq, 4 bits", "it was quantised from"]),
    "awq": (_quantised("awq", bits=4), ["awq, 4 bits"]),
    "fp8": (_quantised("fp8"), ["quantised (fp8)"]),
    "pickled": (_pickled, ["pickled", "weights_only=True).save_pretrained("]),
    "no tokenizer": (_without_tokenizer, ["no tokenizer", "AutoTokenizer"]),
    "sentencepiece": (_sentencepiece, ["only as tokenizer.model", "sentencepiece"]),
    "tiktoken": (_tiktoken, ["only as tokenizer.model", "pip install tiktoken"]),
    "adapter": (_adapter, ["LoRA over 'someone/base'", "merge_and_unload()"]),
    "prompt tuning": (lambda f: _adapter(f, peft_type="PROMPT_TUNING"), ["PROMPT_TUNING"]),
    "code": (
        lambda f: _config(f, model_type="mine", auto_map={"AutoConfig": "a.B"}),
        ["code of its own ('mine'", "never run"],
    ),
    "unknown": (lambda f: _config(f, model_type="lama"), ["'lama'", "llama"]),
    "broken": (_written("config.json", b'{"model_ty'), ["config.json' is damaged"]),
    "list": (_written("config.json", b"[1]"), ["holds [1] instead of fields"]),
    "empty": (_written("config.json", b"{}"), ["holds {} instead of fields"]),
    "broken tokenizer": (_written("tokenizer.json", b"{"), ["tokenizer.json' is damaged"]),
    "pointer": (
        _written("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
        ["git lfs pull"],
    ),
    "lost shard": (_lost_shard, ["lacks model-00001-of-00002.safetensors"]),
    "truncated": (_cut, ["is truncated: "]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["has no weights"]),
    "gguf": (_gguf, ["tiny.gguf", "pip install gguf"]),
    "missing": (shutil.rmtree, ["is not a folder"]),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_cannot_be_used_is_told_in_one_line(kind, folder, tiny_spec, write_spec):
    """With its line in the spec, wherever a model stands, and without torch."""
    spoil, says = FOLDERS[kind]
    spoil(folder)
    model = {"type": "pretrained", "path": str(folder)}
    tiny_spec["stages"]["base"]["train"]["model"] = {**model, "adapter": {"type": "lora", "r": 2}}
    scores = {"models": [model], "data": "corpus", "evaluators": [{"type": "perplexity"}]}
    tiny_spec["stages"]["scores"] = {"evaluate": scores}
    with pytest.raises(SpecError) as error:
        load_spec(write_spec(tiny_spec))
    trained, scored = error.value.problems
    assert "spec.yaml:" in trained
    assert ": stages.base.train.model.path: " in trained
    assert ": stages.scores.evaluate.models.0.path: " in scored
    assert str(folder) in trained
    for part in says:
        assert part in trained
        assert part in scored


def test_validate_and_run_say_the_same(folder, tiny_spec, write_spec, engine, tmp_path):
    """One line and status 2; a tokenizer's folder is looked at alike, and no run begins."""
    _sentencepiece(folder)
    corpus = tiny_spec["stages"]["corpus"]["prepare"]
    corpus["tokenizer"] = {"type": "pretrained", "path": str(folder)}
    spec = write_spec(tiny_spec)
    told = [
        engine(*command, status=2).stderr.strip()
        for command in (("validate", spec), ("run", spec, "--runs", tmp_path / "runs"))
    ]
    assert told[0] == told[1]
    assert len(told[0].splitlines()) == 1
    assert "stages.corpus.prepare.tokenizer.path: " in told[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # get_peft_model
@pytest.mark.parametrize("own_base", [False, True])
def test_a_lora_with_its_base_is_folded_into_it(whole, tmp_path, own_base):
    """As peft merges them, whether the base is another folder or the adapter's own."""
    base = open_model(str(whole), None)
    adapted = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.peft_config["default"].base_model_name_or_path = str(whole)
    folder = tmp_path / "lora"
    if own_base:
        shutil.copytree(whole, folder)
    adapted.save_pretrained(folder)
    expected = adapted.merge_and_unload().state_dict()
    found = open_model(str(folder), None)
    assert found.state_dict().keys() == expected.keys()
    for name, weight in found.state_dict().items():
        torch.testing.assert_close(weight, expected[name])
    assert all(parameter.requires_grad for parameter in found.parameters())
    looked_at = list(Pretrained(path=str(folder)).reads())  # before a stage goes on
    assert looked_at == ([str(folder)] if own_base else [str(folder), str(whole)])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # get_peft_model
@pytest.mark.parametrize("odd", ["more", "fewer"])
def test_a_lora_of_another_base_is_refused_by_a_name(whole, tmp_path, odd):
    """peft leaves out the weights that have no place, and draws anew those that are missing."""
    adapted = get_peft_model(
        open_model(str(whole), None), LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    )
    adapted.peft_config["default"].base_model_name_or_path = str(whole)
    adapted.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    if odd == "more":
        weights |= {n.replace("layers.0", "layers.1"): w.clone() for n, w in weights.items()}
    else:
        weights = {n: w for n, w in weights.items() if "q_proj" in n}
    save_file(weights, file, {"format": "pt"})
    told = {"more": r"4 weights .*layers\.1\.self_attn", "fewer": r"2 weights .*v_proj"}[odd]
    with pytest.raises(RunError, match=f"'{tmp_path}' was made for another base: {told}"):
        open_model(str(tmp_path), None)


def test_a_lora_over_a_quantised_base_is_refused_by_name(folder, tmp_path):
    """Both folders are told, and the method."""
    _quantised("bitsandbytes", load_in_4bit=True)(folder)
    lora = shutil.copytree(folder, tmp_path / "lora")
    _adapter(lora, base_model_name_or_path=str(folder))
    save_file({}, lora / "adapter_model.safetensors")
    with pytest.raises(RunError, match=f"'{lora}' is a LoRA over '{folder}'.*bitsandbytes, 4 bits"):
        open_model(str(lora), None)


def test_weights_of_another_shape_are_named(folder):
    """With both shapes."""
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match=r"model\.norm\.weight has shape \(3,\), .* needs \(32,\)"):
        open_model(str(folder), None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_told_as_such(folder, value):
    """Even of a token that no trial meets."""
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][-1] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SpecError, match=r"NaN or infinite weights: model\.embed_tokens\.weight"):
        examine(open_model(str(folder), None), learns=True)


def test_the_architectures_are_transformers_own():
    """Read without importing it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert architectures.known() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


NONSENSE = {
    "n_layer": ("two", "'two' is not a whole number above 0"),
    "n_head": (0, "0 is not a whole number above 0"),
    "model_type": ("llama", "set `architecture` instead"),
    "vocab_size": (3, "3 is less than the"),
    "n_layerz": (2, "unknown to architecture 'gpt2'; did you mean 'n_layer'?"),
    "attn_implementation": ("flash_attention_2", "FlashAttention2"),
    "activation_function": ("nope", "nope"),
    "attn_pdrop": ("much", "expected"),
}


@pytest.mark.parametrize("field", NONSENSE)
def test_a_field_of_a_new_model_is_told_with_its_line(field, tiny_spec, run_here):
    """Before the first step, whether the spec alone shows it or only the building."""
    value, says = NONSENSE[field]
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32, field: value}
    model = {"type": "causal-lm", "architecture": "gpt2", "config": sizes}
    tiny_spec["stages"]["base"]["train"]["model"] = model
    with pytest.raises(SpecError) as error:
        run_here(tiny_spec)
    (told,) = str(error.value).splitlines()
    assert f": stages.base.train.model.config.{field}: " in told
    assert "spec.yaml:" in told
    assert says in told


def test_a_field_that_only_the_architecture_s_code_looks_for_is_taken(context):
    """transformers' config class does not list it, and the model reads it."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    config = CausalLM(architecture="granite", config={**sizes, "num_key_value_heads": 2})
    attention = build_causal_lm(config, context).model.layers[0].self_attn
    assert attention.q_proj.out_features == 2 * 8


def test_a_long_context_gives_rows_of_a_sensible_length(folder, tiny_spec, run_here, tmp_path):
    """Said once, recorded, kept where it is resumed, and no longer than a batch."""
    _config(folder, max_position_embeddings=131072)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"prompt": f"{n}?", "completion": f"It is {n}."}) + "\n" for n in range(99)
        )
    )
    stages = tiny_spec["stages"]
    train = {
        "data": {"type": "files", "paths": [str(rows)], "records": "completion"},
        "model": {"type": "pretrained", "path": str(folder)},
        "objective": "sft",
        "budget": "1 steps",
        "batch": {"tokens": 256},
    }
    stages.pop("corpus")
    stages["base"] = {"train": train}
    run = run_here(tiny_spec)
    (chosen,) = run.events("rows_chosen")
    assert (chosen["sequence"], chosen["context"]) == (256, 131072)
    recorded = run.folder / "base" / "stage.json"
    record = manifest.unsealed(recorded.read_text())
    assert record["choices"]["sequence"] == 256
    record["choices"]["sequence"] = 128
    recorded.write_text(manifest.sealed(record))
    shutil.rmtree(run.folder / "base" / "checkpoints")
    train["budget"] = "2 steps"
    assert run_here(tiny_spec).events("rows_chosen")[-1]["sequence"] == 128
    train["batch"] = {"examples": 2}
    with pytest.raises(RunError, match=r"rows of at most 4096 tokens.*a shorter `batch\.sequence`"):
        run_here({**tiny_spec, "name": "short"})


def test_a_plan_reckons_with_the_same_rows(folder, tiny_spec, write_spec):
    """And not with whole contexts."""
    from engine_plan.forecast import forecast
    from engine_plan.machine import Machine

    _config(folder, max_position_embeddings=131072)
    tiny_spec["stages"]["base"]["train"] |= {
        "model": {"type": "pretrained", "path": str(folder)},
        "batch": {},
    }
    found = forecast(load_spec(write_spec(tiny_spec)).situation(), "base", Machine.here(1))
    assert found.work.sequence == 4096
