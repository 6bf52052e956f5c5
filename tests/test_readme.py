"""What the front page shows is true."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def notes(tmp_path):
    """The page's spec, in a folder with notes."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "one.md").write_text("# One\n\nA note.\n")
    spec, _ = _blocks("yaml")
    file = tmp_path / "notes.yaml"
    file.write_text(spec)
    return file


def test_the_spec_is_valid_and_its_mistake_is_told_as_shown(notes, engine):
    """To the letter."""
    engine("validate", notes, cwd=notes.parent)
    notes.write_text(notes.read_text().replace("hidden_size", "hiden_size"))
    told = engine("run", notes.name, cwd=notes.parent, status=2)
    (shown,) = re.findall(
        r"^\$ engine run notes.yaml\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
    )
    assert told.stderr == shown


def test_the_stages_after_pre_training_are_valid(notes, engine):
    """As a continuation of the spec."""
    notes.write_text("".join(_blocks("yaml")))
    told = engine("validate", notes, cwd=notes.parent)
    assert told.stdout.endswith("corpus, base, chat, reward, aligned, scores\n")


def test_the_plugin_works_as_shown(notes, engine):
    """Installed with the entry point that the page names, and named in the spec."""
    (code,) = _blocks("python")
    parts = re.split(r"^# (\S+\.py)\n", code, flags=re.MULTILINE)[1:]
    site = notes.parent / "site"
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    (entry,) = re.findall(r'`(quiet = "[^`]+")`', README)
    info = site / "engine_quiet-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: engine-quiet\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[engine.v1]\n{entry.replace(chr(34), '')}\n")
    (notes.parent / "notes" / "loud.md").write_text("WHY IS NOBODY LISTENING?\n")
    (use,) = re.findall(r"may use `(\{type: calm[^`]*\})`", README)
    spec = notes.read_text().replace("{type: exact-dedup}", use)
    spec = spec.replace("seed: 17", "plugins: [quiet]")
    notes.write_text(re.sub(r"\n *- \{type: python-library.*", "", spec))
    env = {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    engine("run", notes, "--stage", "corpus", "--set", "stages.corpus.prepare.holdout=0.1%",
           cwd=notes.parent, env=env)  # fmt: skip
    card = json.loads((notes.parent / "runs" / "notes" / "corpus" / "card.json").read_text())
    assert "'shouting': 1" in str(card)
