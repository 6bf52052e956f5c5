"""Looking into a stage from the command line: talking to its model, reading its rows."""

from __future__ import annotations

import io
import json
import shutil

import pytest

from engine.data.records import Preference
from engine.talk import _parts
from engine.testing import StandAloneContext


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
    assert "a base model: it goes on from what you write" in out
    assert out.count("> ") == 4
    assert err == ""


def test_data(command, finished_run):
    """Rows as the model sees them, documents parted by a bar; machines read what counts."""
    stage = finished_run / "base"
    out, _ = command("data", stage, "--samples", 20)
    assert "row 0: 32 tokens, 31 count" in out
    assert "┃" in out
    lines = command("data", stage, "--samples", 2, "--start", 1, "--json")[0].splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["row"] for row in rows] == [1, 2]
    for row in rows:
        assert len(row["tokens"]) == len(row["counted"]) == len(row["positions"]) == 32
        assert sum(row["counted"]) <= 31
        assert row["text"]


def test_what_fills_a_row_up_is_not_shown():
    """Of a pair, the two answers; the shorter one's row has no padding."""
    context = StandAloneContext()
    objective = context.build("objective", {"type": "reward"})
    pair = Preference(id="p", source="s", prompt="ab", chosen="c", rejected="a longer one")
    (example,) = objective.encode(pair, context.tokenizer(), 64)
    shown = [tokens for tokens, _, _ in _parts(example, objective)]
    assert sorted(map(len, shown)) == [2 + 1 + 1, 2 + len("a longer one") + 1]


@pytest.mark.parametrize("name", ["generate", "chat", "data", "export"])
def test_a_stage_that_cannot_be_looked_into(command, copied, name):
    """A run without a stage, a wrong name, another verb, what is not there yet or damaged."""
    rest = {"generate": ["--prompt", "x"], "export": [copied / "out"]}.get(name, [])
    wrong = {
        copied: f"no stage of a run; name one as in {copied}/STAGE",
        copied / "bse": "no such stage; did you mean 'base'?; stages: corpus, base",
        copied / "corpus": "a prepare stage; train stages here: base",
    }
    for path, why in wrong.items():
        assert command(name, path, *rest, status=2) == ("", f"{path}: {why}\n")
    shutil.rmtree(copied / ("corpus" if name == "data" else "base"))
    _, err = command(name, copied / "base", *rest, status=1)
    assert err.startswith("error: ")
    assert err.endswith("; `engine run` its spec first\n")
    (copied / "resolved.yaml").write_text("stages: {")
    _, err = command(name, copied / "base", *rest, status=1)
    assert "resolved.yaml: cannot be read" in err


def _cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


DAMAGES = {
    "weights": (_cut, "model.safetensors: damaged (its checksum differs); copy it anew"),
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
