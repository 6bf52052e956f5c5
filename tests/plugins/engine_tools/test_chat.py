"""Talking to a stage's model from the command line."""

from __future__ import annotations

import io
import json

import pytest
from engine_tools.chat import _typed


def test_generate(command, finished_run):
    """The prompt and what follows; for machines one JSON object; the same seed, the same text."""
    stage = finished_run / "base"
    out, err = command("generate", stage, "--prompt", "the [b]cat[/] ", "--max-tokens", 5)
    assert out.startswith("the [b]cat[/] ")
    assert err == ""
    options = ("--prompt", "the", "--max-tokens", 5, "--json", "--seed")
    first, again, other = (
        json.loads(command("generate", stage, *options, s)[0]) for s in (3, 3, 4)
    )
    assert first["prompt"] == "the"
    assert 0 < first["tokens"] <= 5
    assert first == again != other


@pytest.mark.parametrize("prompt", ["", "cat " * 300, "\x00\ufffd🐈"])
def test_any_prompt_is_gone_on_from(command, finished_run, prompt):
    """None at all, one longer than the context, and one that the model has never seen."""
    out, _ = command(
        "generate", finished_run / "base", "--prompt", prompt, "--max-tokens", 2, "--json"
    )
    assert json.loads(out)["tokens"] > 0


def test_chat(command, finished_run, monkeypatch):
    """Each line of the input has its answer, until the input ends."""
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n\nthe cat\n"))
    out, err = command("chat", finished_run / "base", "--max-tokens", 4)
    assert "a base model: it continues your text" in out
    assert out.count("> ") == 4
    assert err == ""


def _cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES = {
    "weights": (_cut, "model.safetensors: damaged (its checksum differs); copy it again"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: missing"),
    "config": (lambda f: (f / "config.json").write_text("[]"), "config.json: damaged"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json: missing"),
}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "without a manifest"])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["generate", "chat"])
def test_a_damaged_model_is_told_in_one_line(command, copied, monkeypatch, name, damage, listed):
    """With the file where a manifest tells it, else with the folder."""
    final = copied / "base" / "final"
    spoil, told = DAMAGES[damage]
    spoil(final)
    if not listed:
        (final / "manifest.json").unlink()
        told = str(final)
    rest = ["--prompt", "x"] if name == "generate" else []
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    out, err = command(name, copied / "base", *rest, status=1)
    assert out == ""
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1


def test_a_model_without_its_manifest_is_not_used(command, copied):
    """Its checksums would be compared with nothing."""
    (copied / "base" / "final" / "manifest.json").unlink()
    _, told = command("generate", copied / "base", "--prompt", "x", status=1)
    assert "final: no manifest, so it is not whole" in told


def test_what_is_typed_is_utf8_whatever_the_terminal_says():
    """Bytes that an encoding lacks come as halves of surrogate pairs, which no tokenizer takes."""
    typed = "thé ±".encode().decode("ascii", "surrogateescape")
    assert [_typed(text) for text in (typed, "thé ±", "\udcff")] == ["thé ±", "thé ±", "\ufffd"]
