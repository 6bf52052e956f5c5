"""The commands refuse what is no finished stage of a run."""

from __future__ import annotations

import shutil

import pytest


@pytest.mark.parametrize("name", ["generate", "chat", "data", "export"])
def test_a_stage_that_cannot_be_looked_into(command, copied, name):
    """A run without a stage, a wrong name, another verb, what is not there yet or damaged."""
    rest = {"generate": ["--prompt", "x"], "export": [copied / "out"]}.get(name, [])
    wrong = {
        copied: f"not a stage of a run; name one as in {copied}/STAGE",
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


@pytest.mark.parametrize("place", ["base", "base/final", "corpus"])
def test_a_run_with_links_is_not_looked_into(command, copied, tmp_path, place):
    """Nobody is shown, or given to take along, what lies elsewhere."""
    shutil.move(copied / place, tmp_path / "elsewhere")
    (copied / place).symlink_to(tmp_path / "elsewhere")
    stage = copied / "base"
    for words in (["generate", "--prompt", "x"], ["data"], ["export", tmp_path / "out"]):
        _, told = command(words[0], stage, *words[1:], status=1)
        assert f"{copied / place}: is a link out of its folder" in told
