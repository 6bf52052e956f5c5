"""A corpus's card as one page, with its plots inside: drawn by Vega-Altair and vl-convert."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from engine_corpus.report.bias import bias
from engine_corpus.report.sizes import values_of
from engine_corpus.report.waterfall import Row, bad_rows, waterfall

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse }}
td, th {{ padding: 0.1em 1em 0.1em 0; text-align: left }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums }}
svg {{ max-width: 100%; height: auto }}
</style>
<h1>{title}</h1>
"""
_WIDTH = 560
"""Of a plot, in pixels."""


def page(title: str, card: Mapping[str, Any]) -> str:
    """The page; everything that comes from documents or names is escaped."""
    parts = [_HEAD.format(title=html.escape(title)), *_mixture(card)]
    for source in card["sources"]:
        parts.append(f"<h2>{html.escape(source['source'])}</h2>")
        rows = waterfall({"sources": [source]})
        parts += [_svg(_bars(rows)), _table(rows), _bad(source)]
    for step in card.get("processors", ()):
        shown = [*map(_svg, _plots(step)), *_benchmarks(step)]
        if shown:
            parts += [f"<h2>{html.escape(step['step'])}</h2>", *shown]
    parts += [*_biases(card), *_samples(card)]
    whole = json.dumps(card, indent=1)
    parts.append(
        f"<details><summary>All of the card</summary><pre>{html.escape(whole)}</pre></details>"
    )
    return "\n".join(parts) + "\n</html>\n"


def _mixture(card: Mapping[str, Any]) -> Iterator[str]:
    """The sources with their weights, and how often training sees them."""
    if "mixture" not in card:
        return
    rows = [
        (one["source"], f"{source['tokens']:,}", f"{one['weight']:g}", f"{one['epochs']:.2f}")
        for one, source in zip(card["mixture"], card["sources"], strict=True)
    ]
    yield _cells(("source", "tokens", "weight", "epochs"), rows)
    yield "<p>Epochs: how often each source is seen while as many tokens are drawn"
    yield "as all sources have together.</p>"


def _benchmarks(step: Mapping[str, Any]) -> Iterator[str]:
    """The items of benchmarks that documents have."""
    rows = [
        (name, f"{one['items']:,}", f"{len(one['touched']):,}", f"{one['documents']:,}")
        for name, one in step.get("benchmarks", {}).items()
    ]
    if rows:
        yield _cells(("benchmark", "items", "found", "documents"), rows)


def _cells(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns but the first are numbers."""
    head, *others = heads
    lines = [f"<tr><th>{head}" + "".join(f'<th class="number">{one}' for one in others)]
    for first, *numbers in rows:
        cells = "".join(f'<td class="number">{html.escape(one)}' for one in numbers)
        lines.append(f"<tr><td>{html.escape(first)}{cells}")
    return "\n".join(["<table>", *lines, "</table>"])


def _biases(card: Mapping[str, Any]) -> Iterator[str]:
    """The share that each rule dropped of the documents that mention a group, beside that of all."""
    shares = bias(card)
    if not shares:
        return
    yield "<h2>Dropped of the documents that mention a group</h2>"
    names = list(shares[0]["groups"])
    heads = "".join(f'<th class="number">{html.escape(name)}' for name in ("all", *names))
    yield f"<table>\n<tr><th>rule{heads}"
    for rule in shares:
        own = (rule["all"], *(rule["groups"][name] for name in names))
        cells = "".join(f'<td class="number">{_cell(one)}' for one in own)
        yield f"<tr><td>{html.escape(rule['rule'])}{cells}"
    yield "</table>"
    yield "<p>With intervals of 95 %; bold where those of a group and of all do not overlap.</p>"


def _cell(one: Mapping[str, Any]) -> str:
    if one["share"] is None:
        return ""
    told = f"{one['share']:.1%} ({one['low']:.1%} to {one['high']:.1%})"
    return f"<b>{told}</b>" if one.get("differs") else told


def _samples(card: Mapping[str, Any]) -> Iterator[str]:
    """What each rule has dropped, with what decided."""
    samples = card.get("samples", ())
    if samples:
        yield "<h2>Samples of what was dropped</h2>"
    for rule in samples:
        name = f"{rule['step']}: {rule['rule']}"
        yield f"<details><summary>{html.escape(name)}</summary>\n<table>"
        for one in rule["documents"]:
            texts = (one["source"], one["id"], values_of(one["found"]), one["text"])
            yield "<tr>" + "".join(f"<td>{html.escape(text)}" for text in texts)
        yield "</table></details>"


def _bars(rows: Sequence[Row]) -> Any:
    """Bytes from what was read to what was kept, each bar from where the one before it ends."""
    bars, level = [], 0
    for row in rows:
        whole = row.step in ("read", "kept")
        start = 0 if whole else level
        level = start + row.bytes
        name = f"{row.step} {row.what}".strip()
        kind = "whole" if whole else "removed" if row.bytes < 0 else "added"
        bars.append({"step": name, "start": start / 1e6, "end": level / 1e6, "kind": kind})
    colours = alt.Scale(
        domain=["whole", "removed", "added"], range=["#4c78a8", "#e45756", "#54a24b"]
    )
    return (
        alt.Chart(alt.Data(values=bars), width=_WIDTH)
        .mark_bar()
        .encode(
            y=alt.Y("step:N", sort=None, title=None),
            x=alt.X("start:Q", title="MB"),
            x2="end:Q",
            color=alt.Color("kind:N", scale=colours, legend=None),
        )
    )


def _plots(step: Mapping[str, Any]) -> Iterator[Any]:
    """What a step says of the whole corpus: languages, histograms with thresholds, the curve of near
    copies."""
    if "languages" in step:
        values = [{"language": name, "documents": n} for name, n in step["languages"].items()]
        chart = alt.Chart(alt.Data(values=values), width=_WIDTH).mark_bar()
        yield chart.encode(y=alt.Y("language:N", sort="-x", title=None), x=alt.X("documents:Q"))
    for name, one in step.get("histograms", {}).items():
        yield _histogram(name, one, step.get("limits", {}))
    if step.get("copies_of_a_document"):
        values = [
            {"copies": int(n), "documents": d} for n, d in step["copies_of_a_document"].items()
        ]
        chart = alt.Chart(alt.Data(values=values), width=_WIDTH, height=120).mark_bar()
        yield chart.encode(x=alt.X("copies:O", title="copies of a document"), y="documents:Q")
    if "curve" in step:
        values = [{"similarity": j, "compared": p} for j, p in step["curve"]]
        chart = alt.Chart(alt.Data(values=values), width=_WIDTH, height=160).mark_line()
        yield chart.encode(x="similarity:Q", y=alt.Y("compared:Q", title="share compared"))


def _histogram(name: str, one: Mapping[str, Any], limits: Mapping[str, Any]) -> Any:
    """Numbers of documents, and the least and greatest values that pass."""
    edges, counts = one["edges"], one["counts"]
    bins = [
        {"from": edges[n], "to": edges[n + 1], "documents": count} for n, count in enumerate(counts)
    ]
    kind: Any = "symlog" if edges and max(edges) > 1 else "linear"
    x = alt.X("from:Q", title=name.replace("_", " "), scale=alt.Scale(type=kind))
    bars = alt.Chart(alt.Data(values=bins), width=_WIDTH, height=120).mark_bar()
    drawn = bars.encode(x=x, x2="to:Q", y="documents:Q", y2=alt.datum(0))
    bounds = [{"limit": limits[n]} for n in (f"min_{name}", f"max_{name}") if n in limits]
    if bounds:
        rules = alt.Chart(alt.Data(values=bounds)).mark_rule(color="#e45756")
        drawn += rules.encode(x="limit:Q")
    return drawn


def _table(rows: Sequence[Row]) -> str:
    head = '<tr><th>step<th><th class="number">documents<th class="number">bytes'
    lines = [
        f"<tr><td>{html.escape(row.step)}<td>{html.escape(row.what)}"
        f'<td class="number">{row.documents:,}<td class="number">{row.bytes:,}'
        for row in rows
    ]
    return "\n".join(["<table>", head, *lines, "</table>"])


def _bad(source: Mapping[str, Any]) -> str:
    bad = bad_rows(source)
    told = ", ".join(f"{html.escape(reason)} {count:,}" for reason, count in bad.items())
    return f"<p>Bad rows: {told}.</p>" if bad else ""


def _svg(chart: Any) -> str:
    return str(vl_convert.vegalite_to_svg(json.dumps(chart.to_dict())))
