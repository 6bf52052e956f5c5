"""How much disk a preparation needs is told beforehand."""

from __future__ import annotations

import gzip
import shutil
import sysconfig
from types import SimpleNamespace

import pytest
from engine_data.sources.local_files import FilesSource

from engine.contracts.data import DataSource
from engine.data.corpus.disk import disk_need
from engine.data.records import NamedSource
from engine.testing import run_spec


@pytest.fixture
def prepared(tiny_spec, write_spec, tmp_path):
    """Prepares modules of the standard library, and gives the run."""
    del tiny_spec["stages"]["base"]
    prepare = tiny_spec["stages"]["corpus"]["prepare"]
    library = sysconfig.get_path("stdlib")
    prepare["sources"] = [{"type": "files", "paths": [f"{library}/[a-d]*.py"]}]
    prepare["processors"] = [{"type": "exact-dedup"}]
    prepare["tokenizer"] = {"type": "bpe", "vocab_size": 2000}
    return lambda: run_spec(write_spec(tiny_spec), tmp_path / "runs")


def test_a_preparation_needs_about_what_it_says(prepared):
    """In its folder and beside it."""
    run = prepared()
    (told,) = (event for event in run.events if event["event"] == "disk")
    used = sum(file.stat().st_size for file in run.folder.rglob("*"))
    assert 0.5 < used / told["needed"] < 1.2
    assert told["message"] == f"needs about {told['needed'] / 1e6:.1f} MB of disk"


def test_too_little_disk_is_warned_of_before_anything_is_read(prepared, monkeypatch):
    """It may be enough all the same, so the stage begins."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    run = prepared()
    (warning,) = (event for event in run.events if event["event"] == "warning")
    assert "0.0 MB are free" in warning["message"]
    assert (run.folder / "corpus" / "manifest.json").is_file()


def test_what_some_sources_do_not_tell_is_left_out(new_corpus):
    """And is said to be."""

    class Sized(DataSource):
        def parts(self):
            return ("a", "b")

        def size(self, part):
            return 10**9

    silent, sized = NamedSource("silent", DataSource()), NamedSource("sized", Sized())
    assert disk_need([silent], 3) is None
    assert str(disk_need([sized], 2)) == "about 7.60 GB of disk"
    assert str(disk_need([sized, silent], 2)) == "at least 7.60 GB of disk"


@pytest.mark.parametrize("name", ["text", "compressed"])
def test_files_tell_their_size(name, tmp_path):
    """Of compressed ones about what is in them."""
    text = "\n".join(f"{n * 7919 % 1000} words, {n * 104729 % 997}" for n in range(5000)).encode()
    if name == "text":
        (tmp_path / "a.txt").write_bytes(text)
    else:
        (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text))
    source = FilesSource([f"{tmp_path}/*"])
    (part,) = source.parts()
    assert 0.5 < source.size(part) / len(text) < 2
