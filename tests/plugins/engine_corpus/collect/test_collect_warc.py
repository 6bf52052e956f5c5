"""The source `warc` gives the pages of web archives, past damage, whatever its parts."""

from __future__ import annotations

import gzip
import random
from io import BytesIO
from itertools import pairwise

import pytest
import zstandard
from engine_corpus.collect.config import Warc
from engine_corpus.collect.warc import WarcSource
from fastwarc.warc import WarcRecord, WarcRecordType
from support.sources import records_of

from engine import Bad, RunError, Text

_WORDS = "the tide rises and falls at most coasts twice a day as the moon passes over them".split()


def _page(number: int, words: int = 60) -> bytes:
    chance = random.Random(number)
    text = " ".join(chance.choice(_WORDS) for _ in range(words))
    return f"<html><body><h1>Page {number}</h1><p>{text}</p></body></html>".encode()


def _record(
    number: int,
    body: bytes | None = None,
    *,
    status: str = "200 OK",
    kind: str = "response",
    length: object = None,
    **headers: str,
) -> bytes:
    """A response as crawlers write it."""
    http = {"Content-Type": "text/html; charset=utf-8"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in http.items())
    block = f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + (_page(number) if body is None else body)
    return _raw(number, kind, block, "application/http; msgtype=response", length)


def _raw(number: int, kind: str, block: bytes, media_type: str, length: object = None) -> bytes:
    return (
        (
            f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Date: 2024-05-0{1 + number % 9}T00:00:00Z\r\n"
            f"WARC-Record-ID: <urn:uuid:{number}>\r\nWARC-Target-URI: https://sea.example/{number}\r\n"
            f"Content-Type: {media_type}\r\n"
            f"Content-Length: {len(block) if length is None else length}\r\n\r\n"
        ).encode()
        + block
        + b"\r\n\r\n"
    )


def _numbers(records: list[Text | Bad]) -> list[int | str]:
    """Of a page its number, of a bad row the reason."""
    return [
        int(r.meta["url"].rpartition("/")[2]) if isinstance(r, Text) else r.reason for r in records
    ]


@pytest.fixture
def archive(folder, collected):
    """What is given of an archive with this content: numbers of pages, and reasons of bad rows."""

    def read(content: bytes, **settings) -> list[int | str]:
        (folder / "a.warc").write_bytes(content)
        return _numbers(collected("warc", paths=["a.warc"], **settings))

    return read


def test_a_record_that_a_library_wrote_is_a_document(folder, collected):
    """With its address, date and place; FastWARC writes the archive."""
    stream = BytesIO()
    record = WarcRecord()
    record.init_headers(record_type=WarcRecordType.response)
    record.headers["WARC-Target-URI"] = "https://sea.example/tides"
    record.headers["WARC-Date"] = "2024-05-01T00:00:00Z"
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.is_http = True
    record.set_bytes_content(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + _page(1))
    record.write(stream, checksum_data=True)
    (folder / "tides.warc.gz").write_bytes(gzip.compress(stream.getvalue()))
    (document,) = collected("warc", paths=["*.warc.gz"], license="CC0-1.0")
    assert document.id == "tides.warc.gz:0"
    assert document.source == "tides.warc.gz"
    assert document.license == "CC0-1.0"
    assert document.meta == {"url": "https://sea.example/tides", "date": "2024-05-01T00:00:00Z"}
    assert document.text.startswith("Page 1\n\n")


@pytest.mark.covers("data-source/warc.paths", "data-source/warc.license")
def test_only_pages_of_successful_responses_are_documents(archive, collected):
    content = (
        _raw(0, "warcinfo", b"software: test\r\n", "application/warc-fields")
        + _raw(1, "request", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request")
        + _record(2)
        + _record(3, status="404 Not Found")
        + _record(4, b"\x89PNG\0\0", Content_Type="image/png")
        + _record(5, Content_Type="application/xhtml+xml")
        + _record(6, kind="revisit")
        + _raw(7, "response", b"20240501 sea.example", "text/dns")
    )
    assert archive(content) == [2, 5]
    assert [record.license for record in collected("warc", paths=["a.warc"])] == [None, None]


@pytest.mark.covers("data-source/warc.main_content", "data-source/warc.links")
def test_pages_become_text_as_html_files_do(folder, collected):
    page = b"<body><nav>Menu</nav><p>See <a href='/bay'>the bay</a>.</p></body>"
    (folder / "a.warc").write_bytes(_record(0, page))

    def text(**settings) -> str:
        return collected("warc", paths=["a.warc"], **settings)[0].text

    assert text() == "See the bay."
    assert text(links=True) == "See the bay (/bay)."
    assert text(main_content=False) == "Menu\n\nSee the bay."


def test_conversion_records_are_plain_text(folder, collected):
    """WET files have the text that somebody else has extracted."""
    texts = ["Grüße & <b>!\r\n日本 👋🏽", " \r\n\t"]
    (folder / "a.warc.wet.gz").write_bytes(
        b"".join(
            gzip.compress(_raw(n, "conversion", text.encode(), "text/plain"))
            for n, text in enumerate(texts)
        )
    )
    first, second = collected("warc", paths=["*.wet.gz"])
    assert first.text == "Grüße & <b>!\n日本 👋🏽"
    assert second.reason == "no-text"


def test_encodings_of_http_are_undone(archive, folder, collected):
    """Also where a crawler has undone them and left the header."""
    import brotli

    page = _page(0)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(page), page)
    content = (
        _record(0, gzip.compress(page), Content_Encoding="gzip")
        + _record(1, brotli.compress(page), Content_Encoding="br")
        + _record(2, chunked, Transfer_Encoding="chunked")
        + _record(3, page, Content_Encoding="br", Transfer_Encoding="chunked")
        + _record(4, gzip.compress(page), Content_Encoding="gzip")
        + _record(
            5,
            page.replace(b"<h1>", "<h1>Größe ".encode("cp1252")),
            Content_Type="text/html; charset=ISO-8859-1",
        )
    )
    assert archive(content) == [0, 1, 2, 3, 4, 5]
    texts = [record.text for record in collected("warc", paths=["a.warc"])]
    assert set(texts[:5]) == {texts[0]}
    assert texts[5].startswith("Größe Page 0")


@pytest.mark.parametrize("compress", [lambda record: record, gzip.compress, zstandard.compress])
def test_a_truncated_archive_gives_all_whole_pages_and_one_bad_row(archive, compress):
    """Wherever it is cut off, in plain and in compressed archives."""
    records = [compress(_record(n)) for n in range(3)]
    whole = b"".join(records)
    assert archive(whole) == [0, 1, 2]
    for cut in (30, len(records[2]) // 2):
        assert archive(whole[:-cut]) == [0, 1, "damaged"], cut


def test_damage_costs_the_records_that_it_touches(archive):
    """Reading goes on with the next record, and the error says where."""
    records = [gzip.compress(_record(n)) for n in range(6)]
    spoiled = records[2][:60] + b"XXXX" + records[2][64:]
    found = archive(b"".join([*records[:2], spoiled, *records[3:]]))
    assert found == [0, 1, "damaged", 3, 4, 5]


@pytest.mark.parametrize("compress", [lambda record: record, gzip.compress])
@pytest.mark.parametrize("length", [50, 300, 100_000, -5, "many", ""])
def test_a_wrong_length_is_one_bad_row(archive, compress, length):
    """Too short, too long or no number: the records after it are read."""
    content = b"".join(
        compress(record)
        for record in (_record(0), _record(1, length=length), _record(2), _record(3))
    )
    assert archive(content) == [0, "damaged", 2, 3]


def test_a_response_without_content_is_bad(archive):
    """Without HTTP headers, or without a page."""
    nothing = _raw(1, "response", b"", "application/http; msgtype=response")
    assert archive(_record(0) + nothing + _record(2, b"") + _record(3)) == [0, "empty", "empty", 3]


@pytest.mark.parametrize(
    "content", [b"no archive\n" * 20, gzip.compress(b"no archive\n" * 20)], ids=["plain", "gzip"]
)
def test_a_file_that_is_no_archive_is_bad(archive, content):
    assert archive(content) == ["damaged"]
    assert archive(b"") == []


@pytest.mark.covers("data-source/warc.max_mb")
def test_a_payload_is_as_large_as_max_mb_allows(archive):
    """A bomb is never unpacked whole, whether the archive or the payload is compressed."""
    page = b"<p>" + b"word " * 40_000
    bomb = b"<p>" + bytes(2 * 10**7)
    assert archive(_record(0, page) + _record(1), max_mb=0.1) == ["too-large", 1]
    assert archive(_record(0, page) + _record(1), max_mb=0.3) == [0, 1]
    bombs = [_record(0, bomb), _record(1, gzip.compress(bomb), Content_Encoding="gzip"), _record(2)]
    assert archive(b"".join(map(gzip.compress, bombs))) == ["too-large", "too-large", 2]


@pytest.mark.parametrize("compress", [lambda record: record, gzip.compress])
def test_parts_are_ranges_that_give_each_page_once(folder, compress):
    """Read in order, in reverse, and each by a source of its own; also of damaged archives, and of
    those whose records are compressed together."""
    records = [_record(n) for n in range(60)]
    together = [b"".join(records[n : n + 3]) for n in range(0, 60, 3)]
    for content in (
        b"".join(map(compress, records)),
        b"".join(map(compress, together)),
        compress(b"".join(records)),
        b"".join(compress(r) if n % 7 else compress(r)[:-40] for n, r in enumerate(records)),
    ):
        (folder / "a.warc").write_bytes(content)
        config = Warc(paths=("a.warc",))
        whole = records_of(WarcSource(config))
        assert len({record.id for record in whole}) == len(whole)
        size = 1000
        source = WarcSource(config, size)
        parts = source.parts()
        assert len(parts) == -(-len(content) // size)
        assert records_of(source) == whole
        backwards = [list(source.records(part)) for part in reversed(parts)]
        assert [record for part in reversed(backwards) for record in part] == whole
        alone = [list(WarcSource(config, size).records(part)) for part in parts[::3]]
        assert alone == [list(source.records(part)) for part in parts[::3]]


def test_a_part_that_is_left_early_begins_anew(folder):
    (folder / "a.warc").write_bytes(b"".join(map(_record, range(20))))
    source = WarcSource(Warc(paths=("a.warc",)), 2000)
    first, second, *_ = source.parts()
    wanted = [record.id for record in source.records(second)]
    for part in (first, second):
        records = source.records(part)
        next(records)
        records.close()
    assert [record.id for record in source.records(second)] == wanted


def test_an_archive_that_vanishes_or_grows_is_bad(folder):
    """What was read of it before is given."""
    (folder / "a.warc").write_bytes(b"".join(map(_record, range(3))))
    source = WarcSource(Warc(paths=("*.warc",)))
    (part,) = source.parts()
    records = source.records(part)
    found = [next(records)]
    with (folder / "a.warc").open("ab") as file:
        file.write(_record(3))
    found += records
    assert _numbers(found)[:3] == [0, 1, 2]
    assert found[-1] == Bad(part, "changed-while-read", "the archive changed while it was read")
    (folder / "a.warc").unlink()
    (bad,) = source.records(part)
    assert bad.reason == "vanished"
    with pytest.raises(RunError, match="warc: there is no part 'b#0'"):
        list(source.records("b#0"))


@pytest.mark.soak
def test_archives_with_random_damage_never_stop_a_source(folder):
    """Bytes flipped, cut out and put in: what can be read is given, in the order of places."""
    chance = random.Random(7)
    for _ in range(400):
        compress = chance.choice([gzip.compress, lambda record: record, zstandard.compress])
        content = bytearray(b"".join(compress(_record(n)) for n in range(8)))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(content))
            match chance.randrange(3):
                case 0:
                    content[at] ^= 1 << chance.randrange(8)
                case 1:
                    del content[at : at + chance.randint(1, 300)]
                case 2:
                    content[at:at] = chance.randbytes(chance.randint(1, 300))
        (folder / "a.warc").write_bytes(content)
        found = records_of(WarcSource(Warc(paths=("a.warc",))))
        places = [int(record.id.rpartition(":")[2].partition("+")[0]) for record in found]
        assert all(a <= b for a, b in pairwise(places))
        assert len({record.id for record in found}) == len(found)
