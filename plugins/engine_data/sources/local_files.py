"""Source ``files``: one record for each text file, and for each row of other files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from engine import (
    Bad,
    DataSource,
    Record,
    RunError,
    Schema,
    Text,
    pieces_of,
)
from engine.files import each_once, expanded, matches, unmatched, version_of
from engine_data.rows.formats import COMPRESSIONS, rows_of, text_of
from engine_data.rows.recognition import Recogniser, Say
from engine_data.rows.saved_datasets import saved_folder, saved_splits

_PART = 32 * 2**20
"""Bytes of files that make a part, unless a single one has more."""
_UNPACKED = 4
"""Bytes of text in a byte of a compressed file."""


class FilesSource(DataSource):
    """Records of the files that the globs match, each file once, sorted by name. A part is some files,
    named after the first."""

    def __init__(
        self,
        paths: Sequence[str],
        records: Schema | Literal["auto"] = "auto",
        columns: Mapping[str, str] = MappingProxyType({}),
        *,
        license: str | None = None,  # noqa: A002 - the field's name
        say: Say = lambda message, **fields: None,
    ) -> None:
        self._paths = paths
        self._license = license
        self._new_recogniser = partial(Recogniser, records, columns, license=license)
        self._recogniser = self._new_recogniser(say=say)

    def parts(self) -> Sequence[str]:
        """See :class:`engine.DataSource`. Raises RunError for a glob that matches nothing."""
        return list(self._parts)

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`: names, sizes and times of its files."""
        return version_of(self._parts[part])

    def size(self, part: str) -> int:
        """See :class:`engine.DataSource`: of compressed files four times theirs."""
        return sum(
            path.stat().st_size * (_UNPACKED if path.suffix.lower() in COMPRESSIONS else 1)
            for path in self._parts[part]
            if path.exists()
        )

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`. Raises RunError naming the file and the line."""
        if part not in self._parts:
            raise RunError(
                f"files: no part begins with '{part}'", hint="the files have changed: run it again"
            )
        recogniser = self._recogniser
        if recogniser.schema is None and part != next(iter(self._parts)):
            recogniser.schema = self.schema()
        for path in self._parts[part]:
            with _naming(path):
                before = version_of([path])
                rows = rows_of(path)
                if rows is None:
                    yield from self._document(path)
                else:
                    yield from recogniser.records(rows, path.as_posix())
                if version_of([path]) != before:
                    raise RunError(
                        f"{path}: it changed while it was read",
                        hint="run it again when nothing writes to it any more",
                    )

    def schema(self) -> Schema | None:
        """The schema recognised in the first file with rows; None where there is no file yet. Raises
        RunError for rows of no known shape."""
        try:
            paths = self._files()
        except (OSError, ValueError, RunError):  # reported when it is read
            return None
        recogniser = self._new_recogniser()
        for path in paths:
            with _naming(path):
                rows = rows_of(path)
                if rows is None:
                    return "text"
                for _ in recogniser.records(rows, path.as_posix()):
                    return recogniser.schema
        return None

    @cached_property
    def _parts(self) -> Mapping[str, Sequence[Path]]:
        """The files of each part."""
        parts: dict[str, list[Path]] = {}
        size = _PART
        with _naming(", ".join(self._paths)):
            for path in self._files():
                if size >= _PART:
                    files, size = parts.setdefault(path.as_posix(), []), 0
                files.append(path)
                size += path.stat().st_size if path.exists() else 0
        return parts

    def _files(self) -> list[Path]:
        found: list[Path] = []
        for pattern in map(expanded, self._paths):
            # A broken link is kept, so that reading reports it.
            paths = [saved_folder(path) or path for path in matches(pattern)]
            files = [p for p in paths if saved_folder(p) or p.is_file() or not p.exists()]
            if not files:
                _check_splits(Path(pattern))
                raise unmatched(pattern)
            found += files
        return each_once(found)

    def _document(self, path: Path) -> Iterator[Text]:
        """The document of a text file, in pieces if it is long."""
        schema = self._recogniser.schema = self._recogniser.schema or "text"
        if schema != "text":
            raise RunError(
                f"{path}: a text file cannot hold {schema} records",
                hint="put them into JSON lines or Parquet, or narrow the glob",
            )
        name = path.as_posix()
        document = Text(id=name, source=name, license=self._license, text="")
        yield from pieces_of(document, text_of(path))


def _check_splits(folder: Path) -> None:
    splits = saved_splits(folder)
    if splits:
        names = ", ".join(f"'{folder / split}'" for split in splits)
        raise RunError(f"files: '{folder}' has several splits", hint=f"name one of them: {names}")


@contextmanager
def _naming(place: object) -> Iterator[None]:
    """Turns an OSError into a RunError that names the file."""
    try:
        yield
    except OSError as error:
        where = place if error.filename is None else error.filename
        raise RunError(f"{where}: cannot be read: {error.strerror or error}") from error
