"""Paths and globs find each file once, and are refused where a file is missing or may not be read."""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest
from support.local_files import lines as _lines, read as _read, texts as _texts

from engine import RunError


@pytest.mark.covers("data-source/files.paths")
def test_globs_give_each_file_once_in_the_order_of_names(notes):
    """However many globs match it, and whatever the order in which they stand."""
    for name in ("b.txt", "a/z.md", "a/b/y.md", "c.txt", "[d].txt"):
        (notes / name).parent.mkdir(parents=True, exist_ok=True)
        (notes / name).write_text(name)
    assert _texts("**/*.md") == ["a/b/y.md", "a/z.md"]
    assert _texts("c.txt", "?.txt", notes / "c.txt", "a/*.md") == ["a/z.md", "b.txt", "c.txt"]
    assert _texts("[d].txt") == ["[d].txt"]
    assert _texts("[b-c].txt") == ["b.txt", "c.txt"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("note.txt", "no file matches 'note.txt'; in '.*' there is: notes.txt"),
        ("jornal/*.md", r"no file matches 'jornal/\*\.md'; in '.*' there is: journal"),
        ("*.csv", r"no file matches '\*\.csv'; in '.*' there is: journal, notes.txt"),
        ("journal/may/*.txt", "in 'journal' there is: nothing"),
        ("journal", r"no file matches 'journal'; it is a folder: write 'journal/\*\*/\*'"),
    ],
)
def test_a_path_that_matches_nothing_says_what_there_is(notes, path, told):
    """Also where other paths of the source match."""
    (notes / "journal").mkdir()
    (notes / "notes.txt").write_text("n")
    with pytest.raises(RunError, match=told):
        _read("notes.txt", path)


def test_a_link_to_a_file_that_is_gone_is_an_error(notes):
    """Rather than a document less."""
    (notes / "a.txt").write_text("a")
    (notes / "b.txt").symlink_to("c.txt")
    with pytest.raises(RunError, match=r"b\.txt: cannot be read: No such file"):
        _read("*.txt")


@contextmanager
def _rights_count():
    """Root, whom none would stop, becomes somebody else."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.parametrize("path", ["**/*.txt", "a/*/*.txt", "a/private/b.txt", "a/private/*"])
def test_a_folder_that_may_not_be_read_is_an_error(notes, path):
    """Its files would be missing from the corpus, and nobody would know."""
    notes.chmod(0o755)
    for name in ("a/b.txt", "a/public/b.txt", "a/private/b.txt"):
        (notes / name).parent.mkdir(parents=True, exist_ok=True)
        (notes / name).write_text("b")
    (notes / "a" / "private").chmod(0)
    told = "a/private.*: cannot be read: Permission denied"
    with _rights_count(), pytest.raises(RunError, match=told):
        _read(path)


def test_a_file_that_may_not_be_read_is_an_error(notes):
    """It is named."""
    notes.chmod(0o755)
    for name in ("a.txt", "b.txt"):
        (notes / name).write_text(name)
    (notes / "b.txt").chmod(0)
    with (
        _rights_count(),
        pytest.raises(RunError, match=r"b\.txt: cannot be read: Permission denied"),
    ):
        _read("*.txt")


def test_a_file_counts_once_by_whatever_names_it_is_reached(notes):
    """By links of both kinds and by linked folders; its own name stands before that of a link."""
    (notes / "facts.jsonl").write_bytes(_lines({"text": "a"}, {"text": "b"}))
    (notes / "copy").mkdir()
    (notes / "copy" / "a.jsonl").symlink_to("../facts.jsonl")
    os.link(notes / "facts.jsonl", notes / "hard.jsonl")
    (notes / "again").symlink_to("copy")
    ids = [record.id for record in _read("facts.jsonl", "**/*.jsonl")]
    assert ids == ["facts.jsonl:1", "facts.jsonl:2"]
    assert [record.id for record in _read("copy/*")] == ["copy/a.jsonl:1", "copy/a.jsonl:2"]


def test_a_tilde_is_the_home_folder(notes, monkeypatch):
    """As in a shell, which does not see it in a spec."""
    monkeypatch.setenv("HOME", str(notes))
    (notes / "a.txt").write_text("at home")
    assert _texts("~/*.txt") == ["at home"]
