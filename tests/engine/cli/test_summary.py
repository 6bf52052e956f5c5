"""What a run says at its end."""

from __future__ import annotations

from engine.cli.summary import print_summary
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


def test_scores_are_shown_with_half_of_their_interval(tiny_spec, write_spec, copied, capsys):
    """And that is said."""
    spec = load_spec(write_spec(tiny_spec)).spec
    run = RunFolder(copied)
    print_summary(run, spec, "done")
    out = capsys.readouterr().out
    (score, *_) = run.standing("base").summary["scores"]
    assert f"{score['value']:.4g} ± {1.96 * score['stderr']:.2g}" in out
    assert "  ± half of a 95 % interval\n" in out
