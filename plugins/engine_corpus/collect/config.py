"""Configurations of the sources that collect documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field, field_validator

from engine import DataSourceConfig, Number, Share, runtime
from engine.files import expanded
from engine_corpus.collect.languages import Language


class LocalFilesConfig(DataSourceConfig):
    """Base of sources that read local files."""

    paths: tuple[str, ...] = Field(
        min_length=1, description="Files and globs, such as 'web/**/*.html'."
    )
    license: str | None = Field(None, description="Licence of the documents.")
    max_mb: Number = Field(
        10, gt=0, description="Largest document in MB, decompressed; a larger one is a bad row."
    )

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return self.paths


class PagesConfig(LocalFilesConfig):
    """Base of sources that extract text of HTML."""

    main_content: bool = Field(
        True,
        description="Leave out what resiliparse takes for navigation, footers, forms and the like; "
        "near the top of a page's tree, that is every list with bullets.",
    )
    links: bool = Field(False, description="Keep the targets of links, behind their texts.")


class Html(PagesConfig):
    """Local HTML files, each a document, also compressed (gzip, bzip2, zstd).

    The encoding is the one that the page declares, or is detected. The URL is the page's canonical
    link, or else the file's path.
    """


class Warc(PagesConfig):
    """Web archives (WARC 1.0 and 1.1, ISO 28500), also compressed (gzip, zstd).

    Documents are the HTML pages among the successful HTTP responses, and the plain text of conversion
    records, as WET files have it. All other records are left out.
    """

    bad: Share = runtime(
        0.1,
        description="Share of the pages that may be bad, as many of a crawl have no text; fewer than "
        "ten never stop a stage.",
    )


class Pdf(LocalFilesConfig):
    """Local PDF files with text, each a document: its pages in order, with empty lines between them."""

    max_mb: Number = Field(
        100, gt=0, description="Largest file in MB, decompressed; a larger one is a bad row."
    )


class Git(DataSourceConfig):
    """The source files of a local git repository at a revision, each a document; empty ones are left
    out. Nothing is checked out, and no program that the repository names is run."""

    repository: str = Field(description="Folder of the repository, bare or with a working tree.")
    revision: str = Field(
        "HEAD",
        min_length=1,
        description="Commit, tag or branch; a commit is pinned, so results repeat.",
    )
    languages: tuple[Language, ...] = Field(
        (), description="Languages to take, by the files' suffixes; without any, all known ones."
    )
    license: str | None = Field(
        None, description="Licence of the files; without it, that of a well-known licence file."
    )
    max_mb: Number = Field(
        1, gt=0, description="Largest file in MB; a larger one, mostly generated, is a bad row."
    )

    @field_validator("revision")
    @classmethod
    def _is_a_revision(cls, revision: str) -> str:
        if revision.startswith("-") or not revision.isprintable():
            raise ValueError(
                f"'{revision}' is not a revision, such as HEAD, v1.0 or a commit's hash"
            )
        return revision

    def problems(self) -> Mapping[str, str]:
        """See :class:`engine.Config`: a folder that is missing."""
        if Path(expanded(self.repository)).is_dir():
            return {}
        return {"repository": f"there is no folder '{self.repository}'"}

    def reads(self) -> Iterable[str]:
        """See :class:`engine.Config`."""
        return (self.repository,)
