"""File formats, detected by the name's suffix and by the first bytes: rows, plain text, or unsupported.

``.gz``, ``.bz2``, ``.xz`` and ``.zst`` may follow any suffix.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from engine import RunError
from engine_data.rows.readers import (
    Reader,
    Rows,
    comma_separated,
    json_file,
    json_lines,
    not_utf_8,
    parquet,
    tab_separated,
)
from engine_data.rows.saved_datasets import saved_folder, saved_rows

READERS: Mapping[str, Reader] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".jsonlines": json_lines,
    ".json": json_file,
    ".csv": comma_separated,
    ".tsv": tab_separated,
    ".parquet": parquet,
}
"""Readers of rows, by the suffix of a file's name."""


def _zstd(path: Path) -> IO[bytes]:
    # Unlike the zstandard package, pyarrow reads concatenated frames and detects truncated files.
    import pyarrow

    if not path.stat().st_size:
        raise EOFError("it is empty")
    return io.BufferedReader(cast(Any, pyarrow.CompressedInputStream(str(path), "zstd")))


COMPRESSIONS: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
    ".gz": ("gzip", gzip.open),
    ".bz2": ("bzip2", bz2.open),
    ".xz": ("xz", lzma.open),
    ".zst": ("zstd", _zstd),
}
_MAGIC: Mapping[bytes, str] = {
    b"\x1f\x8b": "gzip",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PAR1\x15": "Parquet",
    b"PK\x03\x04": "a zip archive or spreadsheet",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"ARROW1": "an Arrow file",
    b"%PDF-": "a PDF",
    b"SQLite format 3\0": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\xff\xfe\0\0": "text in UTF-32",
    b"\0\0\xfe\xff": "text in UTF-32",
    codecs.BOM_UTF16_LE: "text in UTF-16",
    codecs.BOM_UTF16_BE: "text in UTF-16",
}
_UNKNOWN = frozenset(
    """.zip .tar .tgz .tbz2 .txz .7z .rar .lz4 .lzma .br .z .xls .xlsx .ods .arrow .feather .orc .avro
    .h5 .hdf5 .npy .npz .pkl .pickle .pt .safetensors .db .sqlite .sqlite3 .pdf .doc .docx .odt .epub
    .gguf .bin .tab .psv .pq .zstd .bz .gzip""".split()
)
"""Suffixes of formats that are not supported: tables, archives and binary files."""
_BLOCK = 2**20
"""Bytes of a text file that are read at once."""
_CONVERT = (
    "convert it to JSON lines, CSV or Parquet, or narrow the glob so that it leaves the file out"
)


def rows_of(path: Path) -> Rows | None:
    """The rows of a file or of a saved folder; None for a text file.

    Raises RunError for an unsupported format and, while reading, for a damaged file.
    """
    if folder := saved_folder(path):
        return saved_rows(folder)
    suffix, _ = _suffixes(path)
    if suffix in _UNKNOWN:
        raise RunError(f"{path}: the format '{suffix}' is not supported", hint=_CONVERT)
    return _rows(path, READERS[suffix]) if suffix in READERS else None


def text_of(path: Path) -> Iterator[str]:
    """The text of a text file in blocks, with newlines as line ends and without a byte order mark.

    Raises RunError for what is not UTF-8 text.
    """
    with opened(path) as file:
        head = file.read(len(codecs.BOM_UTF8))
        rest = head.removeprefix(codecs.BOM_UTF8)
        position = len(head) - len(rest)
        held = ""
        while True:
            block = file.read(_BLOCK)
            raw = rest + block
            if b"\0" in raw:
                place = position + raw.index(0)
                raise RunError(
                    f"{path}: a binary file where text should be (byte {place} is NUL)",
                    hint="narrow the glob so that it matches text only",
                )
            try:
                decoded, used = codecs.utf_8_decode(raw, "strict", not block)
            except UnicodeDecodeError as error:
                raise not_utf_8(path, error, position) from None
            text = held + decoded
            held = "\r" if block and text.endswith("\r") else ""
            yield text.removesuffix(held).replace("\r\n", "\n")
            if not block:
                return
            position, rest = position + used, raw[used:]


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, decompressed. Raises RunError where they contradict its suffix."""
    suffix, compression = _suffixes(path)
    name, decompress = COMPRESSIONS.get(compression, ("", None))
    with path.open("rb") as raw:
        _check(path, raw.read(16), name or ("Parquet" if suffix == ".parquet" else ""))
        raw.seek(0)
        if decompress is None:
            yield raw
            return
    try:
        with decompress(path) as file:
            _check(path, file.peek(16)[:16], "Parquet" if suffix == ".parquet" else "")
            yield file
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if getattr(error, "errno", None) is not None:  # from the system, not the decompressor
            raise
        raise RunError(
            f"{path}: not {name}, or damaged: {error}", hint="compress or download it again"
        ) from error


def _rows(path: Path, reader: Reader) -> Rows:
    with opened(path) as file:
        yield from reader(path, file)


def _suffixes(path: Path) -> tuple[str, str]:
    """The suffixes of format and of compression, each possibly empty."""
    suffix = path.suffix.lower()
    if suffix not in COMPRESSIONS:
        return suffix, ""
    inner = Path(path.stem).suffix.lower()
    if not inner:
        raise RunError(
            f"{path}: its name gives a compression, but no format",
            hint=f"name it {path.stem}.jsonl{suffix}, {path.stem}.txt{suffix} or by another format",
        )
    return inner, suffix


def _check(path: Path, head: bytes, expected: str) -> None:
    """Raises RunError where the first bytes show another format than the name's suffix."""
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if head[1::2] and not any(head[1::2]) and all(head[::2]):
        found = "text in UTF-16"
    if found in (None, expected):
        return
    if found.startswith("text in "):
        encoding = found.removeprefix("text in ")
        hint = f"convert it: iconv -f {encoding} -t UTF-8 {path.name}"
    else:
        end = next((end for end, (name, _) in COMPRESSIONS.items() if name == found), None)
        hint = f"name it {path.name}{end}, or unpack it" if end else _CONVERT
    raise RunError(f"{path}: its content is {found}, which its name does not say", hint=hint)
