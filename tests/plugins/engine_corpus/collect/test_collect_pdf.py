"""The source `pdf` gives the text of PDF files, and a reason for each that has none."""

from __future__ import annotations

import gzip
from io import BytesIO

import pytest
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from support.pdf import pdf as _pdf

_TIDES = [["Why tides differ", "Twice a day the sea rises."], [], ["The moon passes."]]


@pytest.mark.covers("data-source/pdf.paths", "data-source/pdf.license")
def test_a_file_is_a_document_of_its_pages(folder, collected):
    """With their number, though one is empty."""
    (folder / "tides.pdf").write_bytes(_pdf(_TIDES))
    (folder / "packed.pdf.gz").write_bytes(gzip.compress(_pdf([["One page."]])))
    packed, tides = collected("pdf", paths=["*.pdf", "*.gz"], license="CC0-1.0")
    assert tides.text == "Why tides differ\nTwice a day the sea rises.\n\nThe moon passes."
    assert tides.meta == {"url": "tides.pdf", "pages": 3}
    assert (tides.id, tides.source, tides.license) == ("tides.pdf", "tides.pdf", "CC0-1.0")
    assert packed.text == "One page."


def test_a_file_of_matplotlib_has_its_text(folder, outcome):
    """In embedded fonts, with a word that is divided at the end of a line put together."""
    stream = BytesIO()
    with PdfPages(stream) as pages:
        for told in ("Größe und Höhe\nof the spring ti-\ndes", "second page"):
            figure = Figure()
            figure.text(0.1, 0.5, told)
            pages.savefig(figure)
    (folder / "figures.pdf").write_bytes(stream.getvalue())
    assert outcome("pdf", paths=["*.pdf"]) == "Größe und Höhe\nof the spring tides\n\nsecond page"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"words, but no PDF", "damaged"),
        (_pdf(_TIDES)[:60], "damaged"),
        (b"%PDF-1.7\n" + b"\0" * 1000, "damaged"),
        (_pdf([[], [" "]]), "no-text"),
        (_pdf(_TIDES, encrypted=True), "encrypted"),
        (gzip.compress(_pdf(_TIDES), mtime=0)[:-20], "damaged"),
    ],
)
def test_a_file_without_usable_text_is_bad_for_one_reason(folder, outcome, content, reason):
    (folder / "a.pdf").write_bytes(content)
    assert outcome("pdf", paths=["a.pdf"]) == reason


@pytest.mark.covers("data-source/pdf.max_mb")
def test_a_file_and_its_text_are_as_large_as_max_mb_allows(folder, outcome):
    """A small file may name the same page very often."""
    many = _pdf([["The sea rises and falls at most coasts."] * 20], times=200)
    (folder / "a.pdf").write_bytes(many)
    assert len(many) < 10_000
    assert outcome("pdf", paths=["a.pdf"], max_mb=0.1) == "too-large"
    assert outcome("pdf", paths=["a.pdf"], max_mb=0.005) == "too-large"
    assert outcome("pdf", paths=["a.pdf"]).count("The sea rises") > 200
