"""Models that exist: from a folder, a hub, or another stage; as data, never as code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from engine_lm.config import Llama, Pretrained, StageModel
from engine_lm.models import build_llama, build_pretrained
from support.internals import Artifact

from engine import EngineError


@pytest.fixture
def folder(context, tmp_path):
    """A tiny model as transformers saves it."""
    torch.manual_seed(3)
    model = build_llama(Llama(hidden_size=32, layers=1, heads=2, context=64), context)
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _build(folder, context, **fields):
    return build_pretrained(Pretrained(path=str(folder), **fields), context)


@pytest.mark.covers("model/pretrained.path")
def test_the_weights_are_the_folders(folder, context, capfd):
    """Bit by bit, without a word on the terminal."""
    from safetensors.torch import load_file

    model = _build(folder, context)
    saved = load_file(folder / "model.safetensors")
    for name, weight in saved.items():
        assert torch.equal(model.state_dict()[name], weight)
    assert model.training
    assert capfd.readouterr() == ("", "")
    assert Pretrained(path=str(folder)).context_length() == 64


@pytest.mark.covers("model/pretrained.resize_embeddings")
def test_embeddings_grow_with_the_tokenizer(folder, context, tokenizer):
    """Old rows stay; without leave it is refused."""
    before = _build(folder, context).get_input_embeddings().weight
    grown = SimpleNamespace(**vars(context))
    grown.tokenizer = lambda: range(before.shape[0] + 3)
    after = _build(folder, grown).get_input_embeddings().weight
    assert after.shape[0] == before.shape[0] + 64
    assert torch.equal(after[: before.shape[0]], before)
    with pytest.raises(EngineError, match=r"has 320 embeddings, its tokenizer 323 tokens.*resize"):
        _build(folder, grown, resize_embeddings=False)


HUB = """
import sys
from types import SimpleNamespace
from engine_lm.config import Pretrained
from engine_lm.models import build_pretrained

context = SimpleNamespace(tokenizer=lambda: range(10))
model = build_pretrained(Pretrained(path="someone/small", revision=sys.argv[1]), context)
print(float(model.state_dict()["model.norm.weight"][0]))
"""


@pytest.mark.covers("model/pretrained.revision")
def test_a_hub_model_is_the_pinned_revision(folder, tmp_path, context):
    """Two commits in the hub's own cache; which one is opened is the spec's word."""
    from safetensors.torch import load_file, save_file

    cache = tmp_path / "hub" / "models--someone--small"
    for number, commit in enumerate(("a" * 40, "b" * 40)):
        snapshot = cache / "snapshots" / commit
        shutil.copytree(folder, snapshot)
        weights = load_file(snapshot / "model.safetensors")
        weights["model.norm.weight"] += number
        save_file(weights, snapshot / "model.safetensors", {"format": "pt"})
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("b" * 40)
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    told = [
        subprocess.run(
            [sys.executable, "-c", HUB, commit], env=env, capture_output=True, text=True, check=True
        ).stdout
        for commit in ("a" * 40, "b" * 40)
    ]
    assert told == ["1.0\n", "2.0\n"]
    assert "needs a pinned revision" in Pretrained(path="someone/small").problems()["path"]


def test_code_beside_a_model_is_never_run(folder, context, tmp_path):
    """Nor is there a question whether it may."""
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    _build(folder, context)
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match="model"):
        _build(folder, context)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_refused(folder, context):
    """Unpickling runs code."""
    weights = {"model.norm.weight": torch.ones(32)}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EngineError, match="safetensors"):
        _build(folder, context)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": "no-such"}'),
        ("config.json", b"not json"),
        ("model.safetensors", b"\x10\x00"),
        ("model.safetensors", b"\xff" * 200),
    ],
)
def test_a_damaged_folder_is_named(folder, context, file, content):
    """Whatever is wrong with it."""
    (folder / file).write_bytes(content)
    with pytest.raises(EngineError, match=str(folder)):
        _build(folder, context)


def test_weights_that_do_not_fit_are_refused(folder, context):
    """A model with weights that nobody loaded would be trained from noise."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(EngineError, match=r"layers\.1\."):
        _build(folder, context)


def test_weights_that_nothing_takes_are_refused_by_name(folder, context):
    """A config.json with fewer layers than the file would train another model, without a word."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    spare = {
        name.replace("layers.0", "layers.1"): weight.clone()
        for name, weight in weights.items()
        if "layers.0" in name
    }
    save_file({**weights, **spare}, folder / "model.safetensors", {"format": "pt"})
    for opened in (lambda: _build(folder, context), Artifact(folder).model):
        with pytest.raises(EngineError, match=r"no place for: model\.layers\.1\..* and 6 more"):
            opened()


def test_what_a_model_computes_for_itself_may_stand_in_its_file(folder, context):
    """Frequencies of positions, and a head that is the embeddings, as other versions saved them."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _build(folder, context)
    Artifact(folder).model()


def test_folders_that_are_none_are_the_specs_mistake(tmp_path):
    """Seen before anything runs."""
    assert "is not a folder" in Pretrained(path=str(tmp_path / "nowhere")).problems()["path"]
    assert "no config.json" in Pretrained(path=str(tmp_path)).problems()["path"]


@pytest.mark.covers("model/stage.stage")
def test_a_stage_goes_on_from_anothers_weights(tiny_spec, run_here):
    """Bit by bit: with a rate of next to nothing, they stay."""
    train = tiny_spec["stages"]["base"]["train"]
    optimizer = {"type": "adamw", "lr": 1e-12, "weight_decay": 0}
    more = {**train, "model": "base", "optimizer": optimizer, "budget": "1 steps"}
    tiny_spec["stages"]["more"] = {"train": more}
    run = run_here(tiny_spec)
    for name, weight in run.weights("base").items():
        torch.testing.assert_close(run.weights("more")[name], weight, atol=1e-9, rtol=0)


ADAPTER = {
    "engine_shift/__init__.py": "",
    "engine_shift/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_adapters():
    return [Component("shift", "engine_shift.adapter:Shift", "engine_shift.adapter:build",
                      "A vector that is added to the last norm.")]
""",
    "engine_shift/adapter.py": """
import torch
from engine import Config

class Shift(Config):
    pass

class Adapter:
    def attach(self, model):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        model.model.norm.weight.requires_grad_(True)
        return model

    def merge(self, model):
        return model

def build(config, context):
    return Adapter()
""",
}


@pytest.mark.covers("model/stage.adapter")
def test_an_adapter_alone_is_trained(tiny_spec, run_here, install_here):
    """The model beneath it stays as it was."""
    install_here(ADAPTER)
    tiny_spec["plugins"] = ["shift"]
    train = tiny_spec["stages"]["base"]["train"]
    more = {**train, "model": {"type": "stage", "stage": "base", "adapter": {"type": "shift"}}}
    tiny_spec["stages"]["more"] = {"train": more}
    run = run_here(tiny_spec)
    base, more = run.weights("base"), run.weights("more")
    assert {n for n in base if not torch.equal(base[n], more[n])} == {"model.norm.weight"}


def test_a_stage_model_has_no_length_of_its_own():
    """It is that of the stage's model, which need not be trained yet."""
    assert StageModel(stage="base").context_length() is None
