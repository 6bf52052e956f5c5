"""A model's folder is whole, transformers opens it, and it holds the very weights."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from support.models import byte_tokenizer, saved, tiny
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.errors import RunError
from engine.modeling.heads import with_scalar_head
from engine.storage.model_folder import Artifact


@pytest.fixture(scope="module")
def tokenizer(finished_run):
    return Artifact(finished_run / "base" / "final").tokenizer()


def _model(kind: str, seed: int = 0):
    sizes = {"vocab_size": 320, "num_key_value_heads": 1}
    if kind == "experts":
        return tiny("mixtral", seed, **sizes, num_local_experts=3)
    return tiny("llama", seed, **sizes, tie_word_embeddings=kind == "tied")


@pytest.mark.parametrize("kind", ["tied", "untied", "experts"])
def test_transformers_opens_the_very_weights(kind, tmp_path, tokenizer):
    """Bit by bit, by the class that config.json names; the same as our own way to open it."""
    model = _model(kind)
    saved(tmp_path / "final", model, tokenizer)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    ours = Artifact(tmp_path / "final").model()
    for name, weight in model.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], weight)
        assert torch.equal(ours.state_dict()[name], weight)
    assert type(ours) is type(theirs) is type(model)
    assert not ours.training
    opened = Artifact(tmp_path / "final").tokenizer()
    assert opened.get_vocab() == tokenizer.get_vocab()


def test_the_ends_of_turns_stay_with_the_model(tmp_path, tokenizer):
    """Those that its generation configuration lists, and the one that training taught it."""
    model = _model("tied")
    model.generation_config.eos_token_id = [300, 301]
    saved(tmp_path / "final", model, tokenizer)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    assert opened.generation_config.eos_token_id == [300, 301, tokenizer.eos_token_id]
    assert model.generation_config.eos_token_id == [300, 301]


def test_a_damaged_tokenizer_is_named_by_its_file(tmp_path, tokenizer):
    """Where tokenizer.json is JSON, and yet no tokenizer."""
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["model"]["merges"][0] = ["no", "such"]
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RunError, match=rf"tokenizer '{file}' cannot be opened: Token"):
        Artifact(tmp_path).tokenizer()


def test_narrow_models_are_saved_as_wide_as_their_weights(tmp_path, tokenizer):
    """In training a model may hold bfloat16 beside float32 masters, which are what is saved."""
    model = _model("tied")
    weights = [(n, w.clone()) for n, w in model.state_dict().items()]
    Artifact.save(tmp_path / "final", model.bfloat16(), weights, tokenizer)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    assert {p.dtype for p in opened.parameters()} == {torch.float32}
    assert torch.equal(opened.state_dict()["model.norm.weight"], dict(weights)["model.norm.weight"])


@pytest.mark.parametrize("at", ["save_torch_state_dict", "complete", "replace", "rmtree"])
def test_a_killed_save_leaves_the_old_or_the_new(at, tmp_path, tokenizer, monkeypatch):
    """Whole; and the next save makes a whole one of whatever was left."""
    import huggingface_hub

    from engine.storage import model_folder as artifact

    old, new = _model("tied", 1), _model("tied", 2)
    final = tmp_path / "final"
    saved(final, old, tokenizer)
    owners = {
        "save_torch_state_dict": huggingface_hub,
        "complete": artifact.manifest,
        "replace": artifact.os,
        "rmtree": artifact.shutil,
    }
    real = getattr(owners[at], at)

    def deadly(*arguments, **options):
        real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(owners[at], at, deadly)
        saved(final, new, tokenizer)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    if final.exists():
        norm = Artifact(final).model().state_dict()["model.embed_tokens.weight"]
        kept = [torch.equal(norm, m.state_dict()["model.embed_tokens.weight"]) for m in (old, new)]
        assert any(kept)
    saved(final, new, tokenizer)
    assert torch.equal(Artifact(final).model().lm_head.weight, new.lm_head.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_a_flipped_byte_is_found_and_named(tmp_path, tokenizer):
    """Before anything is made of it."""
    model = _model("tied")
    saved(tmp_path / "final", model, tokenizer)
    file = tmp_path / "final" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-7] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match=r"model\.safetensors: damaged"):
        Artifact(tmp_path / "final").model()


def test_opening_says_nothing_on_the_terminal(tmp_path, tokenizer, capfd):
    """transformers' own progress bar would draw over ours."""
    model = _model("tied")
    saved(tmp_path / "final", model, tokenizer)
    Artifact(tmp_path / "final").model()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pad", [None, "eos"])
def test_a_scalar_model_s_padding_is_no_end(pad, tmp_path):
    """Where a tokenizer pads with EOS or not at all: transformers reads a batch's values where the
    engine does, at each text's EOS."""
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = pad and tokenizer.eos_token
    model = with_scalar_head(tiny(vocab_size=258, num_hidden_layers=1), 0).eval()
    artifact = saved(tmp_path / "final", model, tokenizer)
    end, padding = tokenizer.eos_token_id, artifact.tokenizer().pad_token_id
    assert padding not in (None, end)
    texts = [[10, 11, 12, 13, end], [10, end]]
    ids = torch.tensor([text + [padding] * (5 - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (5 - len(text)) for text in texts])
    opened = AutoModelForSequenceClassification.from_pretrained(artifact.folder).eval()
    with torch.no_grad():
        found = opened(input_ids=ids, attention_mask=mask).logits[:, 0]
        hidden = [model.base_model(input_ids=torch.tensor([t])).last_hidden_state for t in texts]
        expected = torch.stack([model.score(h)[0, -1, 0] for h in hidden])
    torch.testing.assert_close(found, expected)
