"""What became of the documents that a run learned from, and which benchmarks they contain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import RunHistory, StageHistory, read_json
from engine_report.page.matrix import NOTHING, Matrix, count, number_of, size


@dataclass(frozen=True, slots=True)
class DataCard:
    """A prepared corpus: its ``sources``, how they are mixed, what was dropped for which reason, and
    the items of ``benchmarks`` that its documents have. ``runs`` have prepared it alike."""

    stage: str
    runs: list[str]
    sources: Matrix
    dropped: Matrix
    mixture: Matrix
    benchmarks: Matrix
    holdout: str
    warnings: list[str] = field(default_factory=list)


def cards_of(labels: Sequence[str], runs: Sequence[RunHistory]) -> list[DataCard]:
    """The corpora of the runs; equal ones once."""
    found: list[tuple[Any, DataCard]] = []
    for label, run in zip(labels, runs, strict=True):
        for name, stage in run.stages.items():
            if stage.verb != "prepare" and not _told(stage):
                continue
            data = _card(run.path / name, stage)
            alike = [card for known, card in found if known == (name, data)]
            if alike:
                alike[0].runs.append(label)
            elif data["sources"]:
                found.append(((name, data), _read(name, label, data)))
    return [card for _, card in found]


def _told(stage: StageHistory) -> bool:
    return any(event.get("event") == "documents" for event in stage.events)


def _card(folder: Path, stage: StageHistory) -> dict[str, Any]:
    """What is known of a corpus: its card, else what the log says."""
    try:
        card = read_json(folder / "card.json")
    except (OSError, ValueError):
        card = {}
    if not isinstance(card, dict) or not isinstance(card.get("sources"), list):
        card = {"sources": [e for e in stage.events if e.get("event") == "documents"]}
    warnings = [str(e.get("message")) for e in stage.events if e.get("event") == "warning"]
    benchmarks = stage.summary.get("benchmarks")
    return {
        "sources": _dicts(card["sources"]),
        "mixture": _dicts(card.get("mixture")),
        "holdout": card.get("holdout"),
        "benchmarks": _dicts(benchmarks),
        "warnings": warnings,
    }


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _read(stage: str, label: str, data: Mapping[str, Any]) -> DataCard:
    sources = data["sources"]
    columns = ("read", "dropped", "held out", "kept", "tokens", "size", "licences")
    rows = [(str(one.get("source")), _cells(one)) for one in sources]
    reasons = dict.fromkeys(reason for one in sources for reason in _counts(one.get("dropped")))
    dropped = [
        (reason, [count(_counts(one.get("dropped")).get(reason)) for one in sources])
        for reason in reasons
    ]
    mixed = [
        (str(one.get("source")), [_plain(one.get("weight"), "g"), _plain(one.get("epochs"), ".2f")])
        for one in data["mixture"]
    ]
    searched = [
        (str(one.get("benchmark")), [count(number_of(one.get("items"))), _touched(one)])
        for one in data["benchmarks"]
    ]
    return DataCard(
        stage=stage,
        runs=[label],
        sources=Matrix("source", columns, rows),
        dropped=Matrix("dropped as", [str(one.get("source")) for one in sources], dropped),
        mixture=Matrix("source", ("weight", "epochs"), mixed),
        benchmarks=Matrix("benchmark", ("items", "found in documents"), searched),
        holdout=_holdout(data["holdout"]),
        warnings=data["warnings"],
    )


def _cells(source: Mapping[str, Any]) -> list[str]:
    dropped = sum(_counts(source.get("dropped")).values())
    figures = [number_of(source.get(n)) for n in ("held_out", "documents", "tokens")]
    licences = source.get("licenses")
    names = ", ".join(map(str, licences)) if isinstance(licences, dict | list) else NOTHING
    read, bytes_ = number_of(source.get("read")), number_of(source.get("bytes"))
    return [count(read), count(dropped), *map(count, figures), size(bytes_), names]


def _counts(value: Any) -> dict[str, float]:
    known = value.items() if isinstance(value, dict) else ()
    return {str(name): n for name, found in known if (n := number_of(found)) is not None}


def _plain(value: Any, form: str) -> str:
    found = number_of(value)
    return NOTHING if found is None else format(found, form)


def _touched(entry: Mapping[str, Any]) -> str:
    touched = entry.get("touched")
    return f"{len(touched):,}" if isinstance(touched, dict | list) else NOTHING


def _holdout(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    documents, bytes_ = (number_of(value.get(name)) for name in ("documents", "bytes"))
    return (
        "" if documents is None else f"{count(documents)} documents, {size(bytes_)}, are held out."
    )
