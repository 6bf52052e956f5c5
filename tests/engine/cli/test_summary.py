"""What a run says at its end."""

from __future__ import annotations

import shutil

import pytest

from engine.cli.summary import print_summary
from engine.contracts.scoring import score_text
from engine.spec.loading import load_spec
from engine.storage.run_folder import RunFolder


def test_the_page_of_a_corpus_is_pointed_to_where_there_is_one(
    tiny_spec, write_spec, run_here, capsys
):
    """A plugin writes it where it can."""
    run = run_here(tiny_spec)
    spec = load_spec(write_spec(tiny_spec)).spec
    capsys.readouterr()
    print_summary(RunFolder(run.folder), spec, "done")
    assert "card.html" not in capsys.readouterr().out
    (run.folder / "corpus" / "card.html").write_text("<html>")
    print_summary(RunFolder(run.folder), spec, "done")
    assert f"corpus: what became of its documents: {run.folder}/corpus/card.html" in (
        capsys.readouterr().out
    )


@pytest.fixture
def talk(tiny_spec, write_spec, copied, capsys):
    """How to talk to the model of each train stage, as the summary says it."""

    def commands():
        spec = load_spec(write_spec(tiny_spec)).spec
        capsys.readouterr()
        print_summary(RunFolder(copied), spec, "done")
        lines = capsys.readouterr().out.splitlines()
        return [line.split(None, 1)[1] for line in lines if line.startswith("  talk")]

    return commands


def test_a_chat_model_is_chatted_with(talk, copied):
    """One whose tokenizer has a template; others continue a text."""
    assert talk()[0].startswith(f"engine generate {copied}/base --prompt ")
    (copied / "base" / "final" / "chat_template.jinja").write_text("{{ messages }}")
    assert talk() == [f"engine chat {copied}/base"]


def test_a_reward_model_is_not_talked_to(talk, tiny_spec, copied):
    """As it only gives values."""
    judge = {
        **tiny_spec["stages"]["base"]["train"],
        "data": {"type": "python-questions", "records": "preference"},
        "model": "base",
        "objective": {"type": "reward"},
    }
    del judge["evaluate"]
    tiny_spec["stages"]["judge"] = {"train": judge}
    shutil.copytree(copied / "base", copied / "judge")
    assert len(talk()) == 1


def test_scores_are_shown_with_half_of_their_interval(tiny_spec, write_spec, copied, capsys):
    """And that is said."""
    spec = load_spec(write_spec(tiny_spec)).spec
    run = RunFolder(copied)
    print_summary(run, spec, "done")
    out = capsys.readouterr().out
    (score, *_) = run.standing("base").summary["scores"]
    assert f"  {score_text(score)}\n" in out
    assert "±" in score_text(score)
    assert "  ± half of a 95 % interval\n" in out
