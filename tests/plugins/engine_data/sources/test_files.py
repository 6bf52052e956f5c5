"""Local files."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from engine_data.config import Files
from engine_data.sources.files import build

from engine import Bad, Preference, RunError
from engine.testing import StandAloneContext


def _read(*paths: object, **options):
    config = Files(paths=tuple(map(str, paths)), **options)
    return list(build(config, StandAloneContext()).records(0, 1))


def _good_and_bad(*paths: object, **options) -> tuple[int, list[Bad]]:
    records = _read(*paths, **options)
    bad = [record for record in records if isinstance(record, Bad)]
    return len(records) - len(bad), bad


def _texts(*paths: object, **options) -> list[str]:
    return [record.text for record in _read(*paths, **options)]


def _lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def _parquet(file: Path, **columns: object) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), file, write_page_checksum=True)
    return file


@pytest.fixture
def notes(tmp_path, monkeypatch) -> Path:
    """The working directory: a folder in which tests put files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"x", "x"),
        (b"a\r\nb\rc\n", "a\nb\rc\n"),
        (b"\xef\xbb\xbfmarked", "marked"),
        ("naïve 東京 🙂\u2028\x85 e\u0301".encode(), "naïve 東京 🙂\u2028\x85 e\u0301"),
    ],
)
def test_a_text_file_is_one_document(notes, content, text):
    """Character by character, without a byte order mark; its lines end as they do on every system."""
    (notes / "a.md").write_bytes(content)
    (record,) = _read("a.md")
    assert (record.text, record.id, record.source, record.license) == (text, "a.md", "a.md", None)


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


def test_every_kind_of_file_gives_the_same_records(notes):
    """By its name's ending, in capitals too; blank lines are none, and a mark is no part of it."""
    rows = [{"text": text, "stars": i} for i, text in enumerate(["", "ü\r\n", "x" * 70_000])]
    marked = b"\xef\xbb\xbf" + _lines(*rows).replace(b"\n", b"\r\n\r\n")
    contents = {"a.JSONL": marked, "b.ndjson": _lines(*rows), "c.jsonl.zst": _zstd(_lines(*rows))}
    for name, content in contents.items():
        (notes / name).write_bytes(content)
    _parquet(notes / "d.parquet", text=[r["text"] for r in rows], stars=[0, 1, 2])
    for name in (*contents, "d.parquet"):
        records = _read(name)
        assert [record.text for record in records] == [row["text"] for row in rows]
        assert [record.meta for record in records] == [{"stars": i} for i in range(3)]
        lines = (1, 3, 5) if name == "a.JSONL" else (1, 2, 3)
        assert [record.id for record in records] == [f"{name}:{line}" for line in lines]


def test_zstd_frames_may_follow_each_other(notes):
    """As parallel compressors and `cat` make them."""
    (notes / "a.jsonl.zst").write_bytes(_zstd(_lines({"text": "a"})) + _zstd(_lines({"text": "b"})))
    assert _texts("a.jsonl.zst") == ["a", "b"]


def test_parts_are_the_whole_between_them(notes):
    """Part p of n has every n-th record, over all files."""
    for name in "ab":
        (notes / f"{name}.jsonl").write_bytes(_lines(*({"text": f"{name}{i}"} for i in range(5))))
    (notes / "c.txt").write_text("c")
    source = build(Files(paths=("*",)), StandAloneContext())
    whole = list(source.records(0, 1))
    assert len(whole) == 11
    for part in range(3):
        assert list(source.records(part, 3)) == whole[part::3]


@pytest.mark.covers("data-source/files.license")
def test_a_licence_stands_where_a_record_says_none(notes):
    """A record's own comes first."""
    (notes / "a.txt").write_text("a")
    (notes / "b.jsonl").write_bytes(_lines({"text": "b"}, {"text": "c", "license": "MIT"}))
    records = _read("*", license="CC0-1.0")
    assert [record.license for record in records] == ["CC0-1.0", "CC0-1.0", "MIT"]


@pytest.mark.covers("data-source/files.columns")
def test_the_text_may_be_in_another_column(notes):
    """Which then is none of the record's other columns."""
    (notes / "a.jsonl").write_bytes(_lines({"body": "a", "text": "title", "n": 1}))
    (record,) = _read("a.jsonl", columns={"text": "body"})
    assert (record.text, dict(record.meta)) == ("a", {"n": 1})
    told = r"a\.jsonl:1: no column 'bdy', which `columns` names for 'text'; it has body, text, n"
    with pytest.raises(RunError, match=told):
        _read("a.jsonl", columns={"text": "bdy"})


@pytest.mark.covers("data-source/files.records")
def test_records_may_be_of_any_schema(notes):
    """Which the specification checks against what the objective takes."""
    row = {"prompt": "p", "chosen": "c", "rejected": "r"}
    (notes / "a.jsonl").write_bytes(_lines(row))
    assert Files(paths=("a",), records="preference").gives() == "preference"
    (record,) = _read("a.jsonl", records="preference")
    assert record == Preference(id="a.jsonl:1", source="a.jsonl", **row)
    (notes / "a.txt").write_text("a")
    with pytest.raises(RunError, match=r"a\.txt: a text file cannot hold chat records"):
        _read("a.txt", records="chat")


_GOOD = {"text": "good"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"text\0text", r"a\.txt: a binary file where text should be \(byte 4 is NUL\)"),
        ("a.md", b"caf\xe9", r"a\.md: not UTF-8 text \(byte 3 is 0xe9\); convert it .*iconv"),
        (
            "a.jsonl",
            b"\n" + b'{"text": "\xff"}',
            r"a\.jsonl:2: not UTF-8 text \(byte 10 of the line",
        ),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: not JSON: it is nested too deeply"),
        ("a.jsonl", b"PK\x03\x04\0\0", r"a\.jsonl: its content is a zip archive"),
        ("a.jsonl", b"[]\n[]\n", r"a\.jsonl:1: list, not an object.*none of its first 2 rows"),
        ("a.jsonl", _lines({"text": 7}), r"a\.jsonl:1: field 'text' is int, not text"),
        ("a.jsonl.zst", _zstd(_lines(*[_GOOD] * 99))[:-3], r"a\.jsonl\.zst: .*Truncated"),
        (
            "a.jsonl.zst",
            _lines(_GOOD),
            r"a\.jsonl\.zst: not zstd, or damaged: ZSTD decompress failed",
        ),
        ("a.jsonl.zst", b"", r"a\.jsonl\.zst: not zstd, or damaged: it is empty"),
        ("a.parquet", b"", r"a\.parquet: not Parquet, or damaged: .*size is 0"),
        ("a.parquet", _lines(_GOOD), r"a\.parquet: not Parquet, or damaged"),
    ],
)
def test_a_file_of_another_kind_is_an_error_that_says_where(notes, name, content, told):
    """The file, and the line or byte at which it goes wrong."""
    (notes / name).write_bytes(content)
    with pytest.raises(RunError, match=told):
        _read("*")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"body": ["a"]}, r"a\.parquet:1: its rows are of no known shape.*columns: {text: body}"),
        ({"text": [1.5]}, r"a\.parquet:1: field 'text' is float, not text"),
    ],
)
def test_a_column_of_another_kind_is_an_error_that_names_the_row(notes, columns, told):
    """Rows count from 1, as lines do."""
    _parquet(notes / "a.parquet", **columns)
    with pytest.raises(RunError, match=told):
        _read("a.parquet")


def test_a_damaged_parquet_file_is_an_error_not_other_text(notes):
    """Cut off anywhere, with a flipped bit among its values, or with what is no text in a column."""
    whole = _parquet(notes / "a.parquet", text=[f"row {i}" * 9 for i in range(3000)]).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for content in (whole[:-1], whole[: len(whole) // 2], bytes(flipped)):
        (notes / "a.parquet").write_bytes(content)
        with pytest.raises(RunError, match=r"a\.parquet: (not Parquet, or damaged|cannot be read)"):
            _read("a.parquet")
    buffers = pyarrow.array([b"caf\xe9"]).buffers()
    _parquet(notes / "a.parquet", text=pyarrow.Array.from_buffers(pyarrow.string(), 1, buffers))
    with pytest.raises(RunError, match=r"a\.parquet: .*'utf-8' codec can't decode byte 0xe9"):
        _read("a.parquet")


@pytest.mark.parametrize(
    ("line", "reason", "what"),
    [
        (b'{"text": \n', "not-json", "not JSON: Expecting value"),
        (b'{"text": "\xff"}\n', "not-utf-8", "not UTF-8 text (byte 10 of the line)"),
        (b"[" * 100_000 + b"\n", "not-json", "not JSON: it is nested too deeply"),
        (b'["a"]\n', "no-object", "list, not an object with fields"),
        (b'{"body": 1}\n', "missing-field", "no column 'text', which a row of texts has"),
        (b'{"text": null}\n', "wrong-type", "field 'text' is NoneType, not text"),
    ],
)
def test_a_bad_row_is_given_as_such_with_its_line(notes, line, reason, what):
    """The rows around it are read."""
    (notes / "a.jsonl").write_bytes(_lines(_GOOD) + line + _lines(_GOOD))
    good, (bad,) = _good_and_bad("a.jsonl")
    assert (good, bad.id, bad.reason) == (2, "a.jsonl:2", reason)
    assert bad.what.startswith(what)


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


def test_the_schema_is_known_before_the_data_is_read(notes):
    """By the first rows of the first file; of files that are not there yet, nothing is known."""
    (notes / "b.jsonl").write_bytes(_lines({"prompt": "a", "completion": "b"}))
    assert Files(paths=("b.jsonl",)).gives() == "completion"
    assert Files(paths=("none.jsonl",)).gives() is None
    (notes / "a.md").write_text("a")
    assert Files(paths=("*",)).gives() == "text"
    with pytest.raises(
        RunError, match="its rows have no text records: they have prompt, completion"
    ):
        _read("*")
