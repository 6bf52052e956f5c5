"""Source ``pdf``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from pypdfium2 import PdfDocument, PdfiumError, raw as pdfium

from engine import Context, Text
from engine_corpus.collect.config import Pdf
from engine_corpus.collect.contents import UnusableError, too_large
from engine_corpus.collect.local_files import FileDocuments

_HYPHEN = "\x02"
"""What PDFium gives for a hyphen at the end of a line, in place of hyphen and line end."""


class PdfSource(FileDocuments):
    """A document of each PDF file."""

    kind = "pdf"

    def __init__(self, config: Pdf) -> None:
        super().__init__(config.paths, config.max_mb)
        self._license = config.license

    def document(self, name: str, raw: bytes) -> Text:
        """See :class:`FileDocuments`."""
        try:
            with closing(PdfDocument(raw)) as document:
                count = len(document)
                text = self._text(document)
        except PdfiumError as error:
            if error.err_code == pdfium.FPDF_ERR_PASSWORD:
                raise UnusableError("encrypted", "a password is needed to open it") from None
            raise UnusableError("damaged", f"not a PDF, or damaged: {error}") from None
        if not text:
            raise UnusableError("no-text", f"none of its {count:,} pages has text")
        meta = {"url": name, "pages": count}
        return Text(id=name, source=name, license=self._license, text=text, meta=meta)

    def _text(self, document: PdfDocument) -> str:
        pages: list[str] = []
        size = 0
        for page in _pages(document):
            size += len(page)
            if size > self.most:  # pages may share the content of one that is small in the file
                raise too_large(self.most)
            pages.append(page)
        return "\n\n".join(filter(None, pages))


def _pages(document: PdfDocument) -> Iterator[str]:
    """The text of each page, with words that a line's end divided put together."""
    for number in range(len(document)):
        with closing(document[number]) as page, closing(page.get_textpage()) as content:
            text = content.get_text_bounded()
        yield text.replace(_HYPHEN, "").replace("\r\n", "\n").strip()


def build(config: Pdf, context: Context) -> PdfSource:
    """Builds the source."""
    return PdfSource(config)
