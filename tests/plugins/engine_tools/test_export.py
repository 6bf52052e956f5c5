"""A model to take along, with its card."""

from __future__ import annotations

import pytest
from huggingface_hub import metadata_load


def test_export(command, copied, tmp_path):
    """A folder that opens with transformers, with a card that says where it comes from."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "out" / "model"
    out, _ = command("export", copied / "base", folder)
    assert out == f"{folder}: opens with transformers' Auto classes\n"
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert metadata_load(folder / "README.md")["library_name"] == "transformers"
    for part in (
        "# tiny / base",
        "1,536 tokens in 6 steps",
        "| perplexity |",
        "| files | ",
        "seed: 5",
    ):
        assert part in card
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("full", "is not empty; choose a new folder"),
        ("full/file", "cannot be written: Not a directory"),
        ("full/file/model", "cannot be written: "),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_folder_that_a_model_cannot_go_to(command, copied, tmp_path, place, why):
    """Keeps what it has, and nothing half written stays."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    _, err = command("export", copied / "base", tmp_path / place, status=1)
    assert err.startswith(f"error: {tmp_path / place}: {why}")
    assert [path.name for path in full.rglob("*")] == ["file"]


def test_a_damaged_model_is_not_exported(command, copied, tmp_path):
    """Its file is named."""
    weights = copied / "base" / "final" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    _, err = command("export", copied / "base", tmp_path / "out", status=1)
    assert "model.safetensors: damaged" in err
    assert not (tmp_path / "out").exists()
