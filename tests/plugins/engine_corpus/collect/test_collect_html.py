"""The source `html` gives the text of real pages, and a reason for each that has none."""

from __future__ import annotations

import bz2
import gzip
import os
import time

import pytest
import zstandard
from engine_corpus.collect import contents, local_files

from engine import Bad, RunError, Text
from engine.testing import StandAloneContext

_ARTICLE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Tides</title>
<link rel="stylesheet" href="/site.css"><link rel="canonical" href="https://sea.example/tides">
<style>body {{ margin: 0 }}</style><script>track("visit")</script></head>
<body><header><nav class="menu"><ul><li><a href="/">Home</a></li><li><a href="/maps">Maps</a></li></ul>
</nav></header><main><div class="page"><article><h1>Why tides differ</h1>
<p>Twice a day the sea rises &amp; falls at most coasts, by {height} at the
<a href="/bay">widest bay</a>. Its shape <em>amplifies</em> the wave.</p>
<ul><li>Spring tides follow the full moon.</li><li>Neap tides follow the quarters.</li></ul>
<pre>high  06:12
low   12:25</pre></article></div></main>
<footer><p>Copyright 2024 by the harbour office</p></footer></body></html>
"""
_HEBREW = (
    "<!DOCTYPE html><html dir='rtl'><meta charset=utf-8><p>שלום לכולם 👋🏽 וברוכים הבאים 🏳️‍🌈</p>"
)


@pytest.fixture
def article(folder):
    """A page of a site, with navigation and footer."""
    (folder / "tides.html").write_text(_ARTICLE.format(height="16 m"))
    return folder / "tides.html"


@pytest.mark.covers("data-source/html.main_content")
def test_the_main_content_of_a_page_has_neither_navigation_nor_footer(article, outcome):
    """Without `main_content` they stay; scripts and styles are never text."""
    main = outcome("html", paths=["tides.html"])
    assert main.startswith(
        "Why tides differ\n\nTwice a day the sea rises & falls at most coasts, by 16 m"
    )
    assert "  • Spring tides follow the full moon.\n" in main
    assert "high  06:12\nlow   12:25" in main
    whole = outcome("html", paths=["tides.html"], main_content=False)
    for words in ("Maps", "Copyright 2024"):
        assert words not in main
        assert words in whole
    assert "track" not in whole
    assert "margin" not in whole


@pytest.mark.covers("data-source/html.links")
def test_targets_of_links_are_kept_if_asked_for(article, outcome):
    assert "/bay" not in outcome("html", paths=["tides.html"])
    assert "widest bay (/bay)" in outcome("html", paths=["tides.html"], links=True)


@pytest.mark.covers("data-source/html.license")
def test_a_page_has_its_canonical_address_and_the_configured_licence(article, collected):
    """A page that names no address of its own has its path."""
    (article.parent / "b.html").write_text("<p>words</p>")
    b, tides = collected("html", paths=["*.html"], license="CC-BY-4.0")
    assert (b.id, b.source, b.meta) == ("b.html", "b.html", {"url": "b.html"})
    assert tides.meta == {"url": "https://sea.example/tides"}
    assert {b.license, tides.license} == {"CC-BY-4.0"}
    assert collected("html", paths=["b.html"])[0].license is None


@pytest.mark.covers("data-source/html.paths")
def test_a_file_is_read_once_by_whatever_name(article, collected):
    """Through globs that overlap, and links."""
    (article.parent / "a.html").symlink_to("tides.html")
    (article.parent / "sub").mkdir()
    (article.parent / "sub" / "c.html").symlink_to(article)
    records = collected("html", paths=["**/*.html", "t*.html"])
    assert [record.id for record in records] == ["tides.html"]
    with pytest.raises(
        RunError, match=r"html: no file matches 'x\*'; in .* there is: .*tides.html"
    ):
        collected("html", paths=["x*"])


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, zstandard.compress])
def test_compressed_pages_are_read_and_damaged_ones_are_bad(folder, outcome, compress):
    whole = compress(_ARTICLE.encode())
    (folder / "page.html.packed").write_bytes(whole)
    assert outcome("html", paths=["page*"]).startswith("Why tides differ")
    (folder / "page.html.packed").write_bytes(whole[:-9])
    assert outcome("html", paths=["page*"]) == "damaged"


def test_pages_in_all_encodings_have_the_same_text(folder, outcome):
    """Declared in the page, by a byte order mark, or detected; a wrong declaration is found out."""
    text = "Größe und Höhe der Gezeiten schwanken – überall verschieden stark"
    for declared, encoding in (
        ("utf-8", "utf-8"),
        ("utf-8", "utf-8-sig"),
        ("iso-8859-1", "cp1252"),
        ("utf-8", "cp1252"),
        ("utf-16", "utf-16"),
        ("no-such-encoding", "utf-8"),
        ("unicode_escape", "utf-8"),
    ):
        page = f"<!DOCTYPE html><meta charset={declared}><p>{text}</p>"
        (folder / "page.html").write_bytes(page.encode(encoding))
        assert outcome("html", paths=["page.html"]) == text, (declared, encoding)
    russian = "Съешь же ещё этих мягких французских булок, да выпей чаю"
    (folder / "page.html").write_bytes(f"<p>{russian}</p>".encode("koi8-r"))
    assert outcome("html", paths=["page.html"]) == russian


def test_single_broken_bytes_are_replaced(folder, outcome):
    """A page that is mostly in UTF-8 is not read as another encoding."""
    page = (f"<meta charset=utf-8><p>{'Die Größe überrascht. ' * 40}</p>").encode()
    (folder / "page.html").write_bytes(page.replace("ü".encode(), b"\xc3", 1))
    assert outcome("html", paths=["page.html"]).count("\ufffd") == 1


def test_right_to_left_text_and_emoji_are_kept(folder, outcome):
    (folder / "page.html").write_text(_HEBREW)
    assert outcome("html", paths=["page.html"]) == "שלום לכולם 👋🏽 וברוכים הבאים 🏳️‍🌈"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (gzip.compress(b"", mtime=0), "empty"),
        (b" \n\t\xc2\xa0 \r\n", "no-text"),
        (b"<html><head><title>T</title></head><body><script>x()</script></body></html>", "no-text"),
        (b"<p>zero \0 byte</p>", "nul"),
        (b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(range(256)), "nul"),
        (b"<meta charset=utf-8><p>\xff\xfe\xfd\x81\x8d\x8f\xff</p>", "undecodable"),
        (b"<div>" * 200_000 + b"words", "nested-too-deep"),
        (b"<div>" * 200_000 + b"words" + b"</div>" * 200_000, "nested-too-deep"),
        (b"<div></x>" * 600 + b"words", "nested-too-deep"),
        (b"\x1f\x8b\x08 no gzip", "damaged"),
    ],
)
def test_a_page_without_usable_text_is_bad_for_one_reason(folder, outcome, content, reason):
    """In at most two seconds of the processor."""
    (folder / "page.html").write_bytes(content)
    started = time.process_time()
    assert outcome("html", paths=["page.html"]) == reason
    assert time.process_time() - started < 2


def test_unclosed_elements_and_character_references_are_text(folder, outcome):
    """Five hundred levels are no error; what is no character is replaced."""
    paragraphs = "".join(f"<p>Paragraph {n} &#xD800;&#0;" for n in range(2000))
    (folder / "page.html").write_text("<div>" * 500 + paragraphs)
    text = outcome("html", paths=["page.html"])
    assert text.startswith("Paragraph 0 \ufffd")
    assert "Paragraph 1999" in text
    assert "\0" not in text


@pytest.mark.covers("data-source/html.max_mb")
def test_a_page_is_as_large_as_max_mb_allows(folder, outcome):
    """Also after decompression: a bomb is never unpacked whole."""
    page = b"<p>" + b"word " * 30_000
    for name, content in (("p", page), ("z", gzip.compress(page))):
        (folder / name).write_bytes(content)
        assert outcome("html", paths=[name], max_mb=0.2) == ("word " * 30_000).strip()
        assert outcome("html", paths=[name], max_mb=0.1) == "too-large"
    (folder / "z").write_bytes(gzip.compress(bytes(2 * 10**7)))
    assert outcome("html", paths=["z"]) == "too-large"


def test_a_file_that_vanishes_is_bad_and_others_are_read(folder):
    """Between listing and reading; so is a link that leads nowhere."""
    for name in "abc":
        (folder / f"{name}.html").write_text(f"<p>words of {name}")
    (folder / "d.html").symlink_to("gone.html")
    source = StandAloneContext().build("data-source", {"type": "html", "paths": ["*.html"]})
    (part,) = source.parts()
    (folder / "b.html").unlink()
    a, b, c, d = source.records(part)
    assert isinstance(a, Text)
    assert isinstance(c, Text)
    assert b == Bad("b.html", "vanished", "the file is gone, or a link leads nowhere")
    assert d == Bad("d.html", "vanished", "the file is gone, or a link leads nowhere")


def test_a_file_that_grows_while_it_is_read_is_bad(folder, outcome, monkeypatch):
    page = folder / "page.html"
    page.write_text("<p>words")

    def read_and_grow(path, most):
        raw = path.read_bytes()
        with path.open("a") as file:
            file.write(" and more words")
        return raw

    monkeypatch.setattr(contents, "read_regular", read_and_grow)
    assert outcome("html", paths=["page.html"]) == "changed-while-read"


def test_a_link_to_itself_is_an_error_that_names_it(folder, collected):
    (folder / "page.html").symlink_to("page.html")
    with pytest.raises(RunError, match=r"page\.html: cannot be read: Too many levels of symbolic"):
        collected("html", paths=["*.html"])


def test_a_folder_that_links_to_its_parent_gives_each_page_once(article, collected):
    (article.parent / "up").symlink_to(".")
    assert [record.id for record in collected("html", paths=["**/*.html"])] == ["tides.html"]


def test_parts_are_files_up_to_32_mb_and_change_with_them(folder, monkeypatch):
    """A part's version changes with a file of its own, not with others."""
    monkeypatch.setattr(local_files, "_PART", 100)
    for name in "abcde":
        (folder / f"{name}.html").write_text("<p>" + f"words of {name} " * 5)
    settings = {"type": "html", "paths": ["*.html"]}
    source = StandAloneContext().build("data-source", settings)
    assert source.parts() == ["a.html", "c.html", "e.html"]
    ids = [[record.id for record in source.records(part)] for part in source.parts()]
    assert ids == [["a.html", "b.html"], ["c.html", "d.html"], ["e.html"]]
    before = [source.version(part) for part in source.parts()]
    os.utime(folder / "d.html", ns=(0, 0))
    after = [source.version(part) for part in source.parts()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    with pytest.raises(RunError, match=r"html: there is no part 'b\.html'; the files have changed"):
        source.records("b.html")
