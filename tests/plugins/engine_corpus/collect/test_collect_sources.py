"""What all sources that collect documents have in common."""

from __future__ import annotations

import subprocess
from io import BytesIO
from itertools import pairwise

import pytest
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from support.internals import read_manifest

from engine import RunError
from engine.testing import StandAloneContext, check_component

_SENTENCE = "the sea rises and falls at most coasts twice a day as the moon passes over them"
_TYPES = ("html", "warc", "git", "pdf")
_SETTINGS = {
    "html": {"paths": ["*.html"]},
    "warc": {"paths": ["*.warc"]},
    "git": {"repository": "repository"},
    "pdf": {"paths": ["*.pdf"]},
}


def _pdf(*words: str) -> bytes:
    stream = BytesIO()
    with PdfPages(stream) as pages:
        figure = Figure()
        if words:
            figure.text(0.1, 0.5, "\n".join(words))
        pages.savefig(figure)
    return stream.getvalue()


def _response(body: str) -> bytes:
    block = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{body}".encode()
    head = "WARC/1.1\r\nWARC-Type: response\r\nContent-Type: application/http\r\n"
    return f"{head}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


def _written(folder, kind: str, good: int, bad: int) -> None:
    """So many documents for a source of this kind, and so many without text."""
    texts = [f"{number}: {_SENTENCE}" for number in range(good)] + [" "] * bad
    pages = [f"<html><body><p>{text}</p></body></html>" for text in texts]
    if kind == "html":
        for number, page in enumerate(pages):
            (folder / f"{number}.html").write_text(page)
    elif kind == "warc":
        (folder / "pages.warc").write_bytes(b"".join(map(_response, pages)))
    elif kind == "pdf":
        for number, text in enumerate(texts):
            (folder / f"{number}.pdf").write_bytes(_pdf(*text.split(maxsplit=1)))
    else:
        _git_repository(folder / "repository", texts)


def _git_repository(folder, texts: list[str]) -> None:
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"m{number}.py").write_text(f"'{text}'" if text.strip() else text)
    person = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", folder, *person, *command], check=True)


@pytest.mark.parametrize("kind", _TYPES)
def test_a_source_passes_the_checks_of_the_kit(folder, kind):
    _written(folder, kind, good=6, bad=2)
    check_component("data-source", {"type": kind, **_SETTINGS[kind]})


@pytest.mark.covers(*(f"data-source/{kind}.bad" for kind in _TYPES))
@pytest.mark.parametrize("kind", _TYPES)
def test_bad_documents_above_the_limit_are_an_error_that_names_the_first(folder, kind):
    _written(folder, kind, good=40, bad=10)
    context = StandAloneContext()
    settings = {"type": kind, **_SETTINGS[kind]}
    few = context.config("data-source", {**settings, "bad": 0.2})
    assert len(list(context.records(few))) == 40
    many = context.config("data-source", {**settings, "bad": "5%"})
    with pytest.raises(
        RunError, match=r"10 of 50 rows are bad, more than its limit `bad`.*\n  \S*\d"
    ):
        list(context.records(many))


@pytest.mark.covers(*(f"data-source/{kind}.priority" for kind in _TYPES))
@pytest.mark.parametrize("kind", _TYPES)
def test_of_two_copies_that_of_the_higher_priority_stays(kind, folder, tiny_spec, run_here):
    """All documents of one source fall where the other has the same."""
    _written(folder, kind, good=8, bad=0)
    prepare = tiny_spec["stages"]["corpus"]["prepare"]
    tiny_spec["stages"] = {"corpus": {"prepare": prepare}}
    prepare["processors"] = [{"type": "exact-dedup"}]
    source = {"type": kind, **_SETTINGS[kind]}
    for priority, fallen in ((0, 1), (2, 0)):
        prepare["sources"] = [source, {**source, "priority": priority}]
        with pytest.raises(RunError, match=f"source '{kind}-{fallen}' gave no document"):
            run_here(tiny_spec, runs=f"runs-{priority}")


@pytest.mark.covers(
    *(f"data-source/{kind}.{field}" for kind in _TYPES for field in ("weight", "max_epochs"))
)
def test_weights_and_epochs_reach_the_mixture(folder, tiny_spec, run_here):
    """Documents of all four sources are prepared, and training draws them by their weights until they
    are used up."""
    sources = []
    for weight, kind in enumerate(_TYPES, 1):
        _written(folder, kind, good=8, bad=0)
        sources.append({"type": kind, "weight": weight, "max_epochs": weight / 2} | _SETTINGS[kind])
    tiny_spec["stages"]["corpus"]["prepare"] = {"sources": sources, "tokenizer": {"type": "bytes"}}
    tiny_spec["stages"]["base"]["train"] |= {"budget": "1 steps", "evaluate": []}
    run = run_here(tiny_spec)
    (training,) = run.events("training")
    starts, shares = zip(*training["segments"], strict=True)
    assert shares[0] == pytest.approx({kind: n / 10 for n, kind in enumerate(_TYPES, 1)})
    shards = [run.folder / "corpus" / "shards" / str(n) for n in range(len(_TYPES))]
    rows = [(read_manifest(folder).tokens - 1) // 32 for folder in shards]
    given = {
        kind: int(n / 2 * row) for n, (kind, row) in enumerate(zip(_TYPES, rows, strict=True), 1)
    }
    lengths = [end - start for start, end in pairwise([*starts, sum(given.values())])]
    for kind, wanted in given.items():
        drawn = sum(share.get(kind, 0) * n for share, n in zip(shares, lengths, strict=True))
        assert drawn == pytest.approx(wanted, abs=len(lengths))
