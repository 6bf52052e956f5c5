"""Source ``git``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from engine import Bad, Context, DataSource, Record, RunError, Text
from engine.files import expanded
from engine_corpus.collect.config import Git
from engine_corpus.collect.contents import MB, UnusableError, too_large
from engine_corpus.collect.git_repository import GitFile, GitRepository
from engine_corpus.collect.languages import language_of
from engine_corpus.collect.licenses import FILES, license_of
from engine_corpus.collect.local_files import gone, grouped


class GitSource(DataSource):
    """The files of a git repository at a commit, by language. A part is some files, named after the
    first."""

    def __init__(self, config: Git) -> None:
        self._config = config
        self._folder = Path(expanded(config.repository))
        self._repository = GitRepository(self._folder)
        self._most = int(config.max_mb * MB)

    def parts(self) -> Sequence[str]:
        """See :class:`engine.DataSource`. Raises RunError for a folder that is no repository, a
        revision that it does not have, and one without files in these languages."""
        return list(self._parts)

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`: names and contents of its files."""
        told = repr([(file.path, file.blob) for file in self._files_of(part)])
        return hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=16).hexdigest()

    def records(self, part: str) -> Iterator[Record | Bad]:
        """See :class:`engine.DataSource`. Raises RunError for a damaged repository."""
        files = self._files_of(part)
        contents = self._repository.contents(file for file in files if file.size <= self._most)
        for file in files:
            name = (self._folder / file.path).as_posix()
            try:
                if file.size > self._most:
                    raise too_large(self._most)
                text = _text(next(contents))
            except UnusableError as error:
                yield error.at(name)
                continue
            yield Text(
                id=name,
                source=self._folder.as_posix(),
                license=self._license,
                text=text,
                meta={"url": name, "commit": self._commit, "language": language_of(file.path)},
            )

    def _files_of(self, part: str) -> Sequence[GitFile]:
        if part not in self._parts:
            raise gone("git", part)
        return self._parts[part]

    @cached_property
    def _commit(self) -> str:
        return self._repository.commit(self._config.revision)

    @cached_property
    def _files(self) -> Sequence[GitFile]:
        return self._repository.files(self._commit)

    @cached_property
    def _parts(self) -> Mapping[str, Sequence[GitFile]]:
        wanted = self._config.languages
        found = []
        for file in self._files:
            language = language_of(file.path)
            if file.size and language and (not wanted or language in wanted):
                found.append(file)
        if not found:
            raise RunError(
                f"git: '{self._folder}' has no file in {' or '.join(wanted) or 'a known language'} at "
                f"'{self._config.revision}'",
                hint="name other `languages`, or another `revision`",
            )
        return {group[0].path: group for group in grouped((file, file.size) for file in found)}

    @cached_property
    def _license(self) -> str | None:
        """As configured, or as the only licence file at the top tells."""
        if self._config.license is not None:
            return self._config.license
        files = [file for file in self._files if file.path in FILES and file.size <= MB]
        if len(files) != 1:
            return None
        (raw,) = self._repository.contents(files)
        return license_of(raw.decode(errors="replace"))


def _text(raw: bytes) -> str:
    if b"\0" in raw:
        raise UnusableError("nul", f"a binary file: byte {raw.index(0)} is NUL")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UnusableError("not-utf-8", f"not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise UnusableError("no-text", "there is only white space in it")
    return text


def build(config: Git, context: Context) -> GitSource:
    """Builds the source."""
    return GitSource(config)
