"""A folder or a name on the hub: one rule for models, tokenizers and data sets."""

from __future__ import annotations

import pytest
from engine_data.config import HuggingFace, PretrainedTokenizer
from engine_lm.config import Pretrained
from pydantic import ValidationError

from engine import misplaced

COMMIT = "0123456789" * 4
WRONG = {
    "a folder that is missing": (
        "data/sest",
        None,
        "'data/sest' is not a folder here; in 'data' there",
    ),
    "also with a revision": ("./data/sest", COMMIT, "there is: sets"),
    "a file": ("data/sets/a.txt", COMMIT, "is a file; give the folder that holds it"),
    "no name of a hub": ("one/two/three", COMMIT, "is not a folder here; in "),
    "nor one with two dots": ("one/two..three", COMMIT, "is not a folder here; in "),
    "no revision": ("one/two", None, "needs a pinned revision"),
    "a branch": ("one/two", "main", "revision 'main' is not a commit's hash"),
    "a number": ("one/two", "1", "revision '1' is not a commit's hash"),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """In it `data/sets`, with a file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "sets").mkdir(parents=True)
    (tmp_path / "data" / "sets" / "a.txt").write_text("A.")


@pytest.mark.parametrize("what", WRONG)
def test_what_is_neither_is_told_alike_of_all(what):
    """Before anything runs, in one line."""
    name, revision, told = WRONG[what]
    wrong = misplaced(name, revision)
    assert wrong is not None
    assert told in wrong
    assert "\n" not in wrong
    for config in (Pretrained, PretrainedTokenizer):
        assert config(path=name, revision=revision).problems() == {"path": wrong}
    with pytest.raises(ValidationError, match="Value error, ") as refused:
        HuggingFace(path=name, revision=revision)
    assert wrong in str(refused.value)


@pytest.mark.parametrize(
    ("name", "revision"),
    [("data/sets", None), ("./data/sets", "main"), ("one/two", COMMIT), ("data/sest", COMMIT[:7])],
)
def test_a_folder_and_a_commit_on_the_hub_are_right(name, revision):
    """A name that could be either is one on the hub if it has a revision."""
    assert misplaced(name, revision) is None


def test_what_can_be_no_path_is_no_traceback():
    """A NUL, or a name that is too long."""
    for name in ("a\0b", "x" * 5000):
        assert "is not a folder here; in " in str(misplaced(name, COMMIT))
