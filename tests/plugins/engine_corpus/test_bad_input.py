"""Whatever is wrong with an input, a preparation counts it under one reason, or says what to mend.

Each case goes through a whole prepare stage; nothing half-written is ever left.
"""

from __future__ import annotations

import gzip
import io
import json
import resource
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from engine_corpus.collect import contents
from engine_data.rows import readers
from engine_data.sources import local_files
from support.bad_input import (
    CRASHING,
    GOOD,
    PAGE,
    RESPONSE,
    ROW,
    beside_a_good_one,
    check_nothing_is_left,
    prepared,
    response,
)
from support.internals import pieces, trained_texts
from support.pdf import pdf

from engine import RunError
from engine.testing import FinishedRun

_HEBREW = "שלום לכולם، مرحبا بالجميع"
_FACES = "👩‍👩‍👧‍👦 waves 👋🏽 under 🏳️‍🌈"


def _zip(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("page.html", content)
    return packed.getvalue()


_BOMB = gzip.compress(bytes(3 * 10**6))
_PACKED = gzip.compress(RESPONSE)
_COUNTED = {
    "html/a.html": {
        "truncated gzip": (gzip.compress(PAGE)[:-9], "damaged"),
        "truncated zstd": (zstandard.compress(PAGE)[:-3], "damaged"),
        "invalid UTF-8": (b"<meta charset=utf-8><p>\xff\xfe\xfd\x81\x8d\x8f", "undecodable"),
        "NUL": (b"<p>zero \0 byte", "nul"),
        "zip": (_zip(bytes(10**6)), "nul"),
        "gzip bomb": (_BOMB, "too-large"),
        "200,000 nested elements": (b"<div>" * 200_000 + b"words", "nested-too-deep"),
        "empty file": (b"", "empty"),
        "white space": (b" \n\t\xc2\xa0 \r\n", "no-text"),
        "right-to-left": (f"<meta charset=utf-8><p dir=rtl>{_HEBREW}".encode(), "", _HEBREW),
        "emoji": (f"<meta charset=utf-8><p>{_FACES}".encode(), "", _FACES),
    },
    "warc/a.warc": {
        "without payload": (response(b"") + RESPONSE, "empty"),
        "wrong length": (response(PAGE, 60) + RESPONSE, "damaged"),
        "truncated gzip": (_PACKED + _PACKED[:-20], "damaged"),
        "gzip bomb": (response(_BOMB), "too-large"),
        "empty file": (b"", ""),
    },
    "pdf/a.pdf": {
        "password": (pdf([[GOOD]], encrypted=True), "encrypted"),
        "gzip bomb": (_BOMB, "too-large"),
        "empty file": (b"", "empty"),
    },
    "files/a.jsonl": {
        "invalid UTF-8": (ROW + b'{"text": "\xff"}', "not-utf-8"),
        "NUL": (ROW + rb'{"text": "\u0000"}', "nul"),
        "lone surrogate": (ROW + rb'{"text": "half \ud83d"}', "lone-surrogate"),
        "a line of 1 GB": (b'{"text": "' + b"x" * 2**21 + b'"}\n' + ROW, "too-long"),
        "empty file": (b"", ""),
        "emoji": (json.dumps({"text": _FACES}).encode(), "", _FACES),
    },
    "files/a.jsonl.gz": {"gzip bomb": (gzip.compress(ROW + b" " * 10**7), "too-long")},
    "files/a.txt": {
        "a line of 1 GB": (b"x" * (2**18 + 9), "", "x" * 2**17, "x" * 9),
        "300,000 times one letter": (b"a" * 300_000, "", "a" * 2**17, "a" * (300_000 - 2**18)),
        "empty file": (b"", "empty"),
        "white space": (b" \n\t\xc2\xa0 \r\n", "empty"),
        "right-to-left": (_HEBREW.encode(), "", _HEBREW),
    },
}
"""By kind of source and name of a file: what is in it, the reason under which one of its documents is
counted, if any, and texts that are kept of it."""
_CASES = [
    (*file.split("/"), item, content, reason, texts)
    for file, cases in _COUNTED.items()
    for item, (content, reason, *texts) in cases.items()
]
_KINDS = ("html", "files", "warc", "pdf")


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """The run of a spec with a source of each kind, which has the files of its cases. Here, pages have
    at most 2 MB, lines 1 MiB, and pieces of documents 128 Ki characters."""
    folder = tmp_path_factory.mktemp("counted")
    sources = []
    for kind in _KINDS:
        sources.append(beside_a_good_one(folder / kind, kind, "", None) | {"bad": 1.0})
        if kind != "files":
            sources[-1]["max_mb"] = 2
    for kind, name, item, content, *_ in _CASES:
        file = folder / kind / item / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_LONGEST", 2**20)
        patch.setattr(pieces, "LONGEST", 2**17)
        return prepared(folder, *sources)


@pytest.mark.parametrize("kind", _KINDS)
def test_what_is_read_is_kept_or_counted_under_a_reason(counted, kind):
    """Nothing is lost, and nothing counted twice."""
    card = counted.card["sources"][_KINDS.index(kind)]
    reasons = [case[4] for case in _CASES if case[0] == kind]
    assert card["dropped"] == Counter(filter(None, reasons))
    assert card["read"] == card["documents"] + sum(card["dropped"].values())


@pytest.fixture(scope="module")
def kept(counted: FinishedRun) -> set[str]:
    """The texts that training gets."""
    return set(trained_texts(counted.folder / "corpus"))


@pytest.mark.parametrize(
    ("kind", "name", "item", "reason", "texts"),
    [pytest.param(*case[:3], *case[4:], id=f"{case[2]}, {case[1]}") for case in _CASES],
)
def test_a_bad_document_has_one_reason_and_good_ones_are_whole(
    counted, kept, kind, name, item, reason, texts
):
    """The reason is named with the file, but for text files without words, which are no bad rows."""
    rows = counted.card["sources"][_KINDS.index(kind)]["bad_rows"]
    named = [row.rsplit(" ", 1)[1] for row in rows if f"/{item}/{name}" in row]
    assert named == ([reason] if reason and (kind, reason) != ("files", "empty") else [])
    assert kept.issuperset(texts)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param(name, content, told, id=item)
        for item, name, content, told in [
            ("truncated gzip", "a.txt.gz", gzip.compress(b"words")[:-9], "not gzip, or damaged: "),
            (
                "truncated zstd",
                "a.jsonl.zst",
                zstandard.compress(ROW)[:-3],
                "not zstd, or damaged: ",
            ),
            (
                "invalid UTF-8",
                "a.txt",
                b"caf\xe9",
                r"not UTF-8 text \(byte 3 is 0xe9\); convert it",
            ),
            ("NUL", "a.txt", b"x" * 2**20 + b"\0", r"a binary file .*\(byte 1048576 is NUL\)"),
            (
                "a line of 1 GB",
                "a.csv",
                b"text\n" + b"x" * 2**21,
                ":2: a line of more than 64 Mi bytes",
            ),
            ("a field of 1 GB", "a.csv", b'text\n"' + b"x\n" * 2**20, ":2: not CSV from here on"),
            ("a zip archive", "a.jsonl", _zip(ROW), "its content is a zip archive"),
            (
                "a zip archive by its name",
                "a.zip",
                _zip(ROW),
                "the format '.zip' is not supported",
            ),
            ("a gzip bomb", "a.txt.gz", _BOMB, r"a binary file .*\(byte 0 is NUL\)"),
            ("an empty file", "a.jsonl.zst", b"", "not zstd, or damaged: it is empty"),
        ]
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path, monkeypatch, name, content, told):
    """It names the file, and nothing is prepared."""
    monkeypatch.setattr(readers, "_LONGEST", 2**20)
    with pytest.raises(RunError, match=f"{name}:? ?{told}"):
        prepared(tmp_path, beside_a_good_one(tmp_path / "given", "files", name, content))
    check_nothing_is_left(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name"), [("html", "a.html"), ("files", "a.txt"), ("pdf", "a.pdf")]
)
def test_a_link_to_itself_is_an_error(tmp_path, kind, name):
    source = beside_a_good_one(tmp_path / "given", kind, name, None)
    (tmp_path / "given" / name).symlink_to(name)
    with pytest.raises(
        RunError, match=f"{name}: cannot be read: Too many levels of symbolic links"
    ):
        prepared(tmp_path, source)
    check_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("kind", "name"), [("html", "a.html"), ("files", "a.txt")])
def test_a_folder_that_links_to_its_parent_is_read_once(tmp_path, kind, name):
    source = beside_a_good_one(tmp_path / "given", kind, name, PAGE)
    (tmp_path / "given" / "up").symlink_to(".")
    source["paths"] = [f"{tmp_path}/given/**/*.{name[2:]}"]
    assert prepared(tmp_path, source).card["sources"][0]["read"] == 2


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" and more")


@pytest.mark.parametrize(
    ("what", "reason", "told"),
    [
        (_grow, "changed-while-read", r"a\.txt: it changed while it was read"),
        (Path.unlink, "vanished", r"a\.txt: cannot be read: No such file or directory"),
    ],
    ids=["grows", "vanishes"],
)
def test_a_file_that_grows_or_vanishes_while_it_is_read(tmp_path, monkeypatch, what, reason, told):
    """A page is counted, a text file is an error; it happens when reading begins."""

    def first(function: Callable[..., Any]) -> Callable[..., Any]:
        def changed(path: Path, *given: Any) -> Any:
            if path.stem == "a":
                what(path)
            return function(path, *given)

        return changed

    monkeypatch.setattr(contents, "read_regular", first(contents.read_regular))
    source = beside_a_good_one(tmp_path / "pages", "html", "a.html", PAGE)
    assert prepared(tmp_path, source).card["sources"][0]["dropped"] == {reason: 1}
    monkeypatch.setattr(local_files, "text_of", first(local_files.text_of))
    with pytest.raises(RunError, match=told):
        prepared(
            tmp_path / "texts", beside_a_good_one(tmp_path / "texts", "files", "a.txt", b"words")
        )
    check_nothing_is_left(tmp_path / "texts")


def test_a_document_that_crashes_its_parser_is_counted(tmp_path, install_here):
    """Its neighbours are kept."""
    install_here(CRASHING)
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("crash" if number == 2 else GOOD)
    source = {"type": "crashing", "paths": [f"{tmp_path}/*.txt"]}
    executor = {"type": "local", "processes": 1}
    run = prepared(tmp_path, source, plugins=["crashing"], executor=executor)
    (card,) = run.card["sources"]
    assert (card["documents"], card["dropped"]) == (4, {"crashed-or-too-slow": 1})
    assert card["bad_rows"] == [f"{tmp_path}/2.txt [1] crashed-or-too-slow"]


def test_a_full_disk_is_an_error(tmp_path):
    """The kernel lets no file grow beyond 100 KB, and refuses as on a full disk."""
    noise = np.random.default_rng(0).bytes(200_000).hex().encode()
    source = beside_a_good_one(tmp_path / "given", "files", "a.txt", noise)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RunError, match="corpus: File too large; free some space"):
            prepared(tmp_path, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check_nothing_is_left(tmp_path)


def test_more_bad_documents_than_the_limit_stop_the_stage(tmp_path):
    """It names the first ten."""
    source = beside_a_good_one(tmp_path / "given", "html", "a.html", PAGE)
    for number in range(12):
        (tmp_path / "given" / f"{number:02d}.html").write_bytes(b"")
    with pytest.raises(RunError) as told:
        prepared(tmp_path, source)
    assert "12 of 14 rows are bad, more than its limit `bad` of 0.01" in str(told.value)
    named = [Path(line.split(": ")[0]).name for line in str(told.value).splitlines()[1:]]
    assert named == [f"{number:02d}.html" for number in range(10)]
    check_nothing_is_left(tmp_path)
