"""A model is trained only on data whose tokenizer gives its tokens the same ids."""

from __future__ import annotations

import shutil

import pytest

from engine.errors import EngineError, RunError


def test_a_tokenizer_that_is_not_the_model_s_is_refused(tiny_spec, train, run_here):
    """Model and tokenizer travel together."""
    tiny_spec["stages"]["other"] = {
        "prepare": {
            **tiny_spec["stages"]["corpus"]["prepare"],
            "tokenizer": {"type": "bpe", "vocab_size": 290},
        }
    }
    tiny_spec["stages"]["more"] = {"train": {**train, "model": "base", "data": "other"}}
    with pytest.raises(RunError, match="another vocabulary than 'base' uses"):
        run_here(tiny_spec)


@pytest.mark.parametrize("tokenizer", ["another", "none"])
def test_a_folder_s_tokenizer_is_the_data_s(
    tokenizer, tiny_spec, train, run_here, finished_run, tmp_path
):
    """Else a checkpoint would be trained on ids that mean other tokens, without a word."""
    folder = tmp_path / f"model-{tokenizer}"
    shutil.copytree(finished_run / "base" / "final", folder)
    if tokenizer == "none":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    else:
        tiny_spec["stages"]["corpus"]["prepare"]["tokenizer"] = {"type": "bpe", "vocab_size": 290}
    train["model"] = {"type": "pretrained", "path": str(folder)}
    with pytest.raises(EngineError, match=r"another vocabulary than '/|has no tokenizer \(no "):
        run_here(tiny_spec)


def test_data_may_have_more_tokens_than_a_model_from_elsewhere(
    tiny_spec, train, run_here, finished_run, tmp_path
):
    """Those that it knows have the same ids; its embeddings grow by the others."""
    from transformers import AutoTokenizer

    final = finished_run / "base" / "final"
    more = AutoTokenizer.from_pretrained(final)
    more.add_tokens([f"<new {i}>" for i in range(30)])
    more.save_pretrained(tmp_path / "more")
    path = str(tmp_path / "more")
    tiny_spec["stages"]["corpus"]["prepare"]["tokenizer"] = {"type": "pretrained", "path": path}
    train |= {"model": {"type": "pretrained", "path": str(final)}, "budget": "1 steps"}
    train["evaluate"] = []
    assert len(run_here(tiny_spec).weights()["model.embed_tokens.weight"]) >= len(more)
