"""A model's folder that cannot be used is told in one line with its mend, before anything is built."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from engine_lm.opening import open_model
from safetensors.torch import load_file, save_file
from support.model_folders import set_config as _config

from engine import RunError, SpecError, load_spec
from engine.modeling import examine


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
    "encoder": (lambda f: _config(f, model_type="bert"), ["is not causal"]),
    "encoder-decoder": (
        lambda f: _config(f, model_type="bart", is_encoder_decoder=True),
        ["is an encoder-decoder model"],
    ),
    "unknown encoder-decoder": (lambda f: _config(f, model_type="t5"), ["'t5'", "tried with"]),
    "images": (lambda f: _config(f, model_type="llama4", vision_config={}), ["vision_config"]),
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
def test_what_cannot_be_used_is_told_in_one_line(kind, folder, tiny_spec, write_spec, monkeypatch):
    """With its line in the spec, wherever a model stands, and without torch."""
    converters = ("tiktoken", "sentencepiece", "protobuf")  # which may be here for something else
    monkeypatch.setattr(
        "engine.modeling.pretrained._is_installed", lambda name: name not in converters
    )
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
